use std::path::{Path, PathBuf};
use std::process::Command;
use std::{env, fmt, fs};

use crate::Error;

/// An etcd server program of this machine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EtcdBinary {
    path: PathBuf,
    version: (u32, u32, u32),
}

impl EtcdBinary {
    /// Asks the program at `path` for its version.
    ///
    /// # Errors
    ///
    /// When it cannot be run, or does not answer `--version` as etcd does.
    pub fn at(path: impl Into<PathBuf>) -> Result<Self, Error> {
        let path = path.into();
        let shown = path.display();
        let run = Command::new(&path).arg("--version").output();
        let output = run.map_err(Error::io(format_args!("cannot run {shown} --version")))?;
        let text = String::from_utf8_lossy(&output.stdout);
        let version = parse_version(&text)
            .ok_or_else(|| Error::new(format!("{shown} is not etcd; it answers {text:?}")))?;
        Ok(Self { path, version })
    }

    /// Where the program is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Major, minor and patch version.
    pub fn version(&self) -> (u32, u32, u32) {
        self.version
    }

    /// Whether this is version `major.minor` or a later one.
    pub fn at_least(&self, major: u32, minor: u32) -> bool {
        (self.version.0, self.version.1) >= (major, minor)
    }

    /// The `etcdctl` beside the server, else the one on the PATH.
    pub fn etcdctl(&self) -> Option<PathBuf> {
        let beside = self.path.with_file_name("etcdctl");
        if beside.is_file() { Some(beside) } else { on_path("etcdctl") }
    }
}

/// For example `etcd 3.5.1 (/usr/bin/etcd)`.
impl fmt::Display for EtcdBinary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (major, minor, patch) = self.version;
        write!(f, "etcd {major}.{minor}.{patch} ({})", self.path.display())
    }
}

/// The etcd servers to test on; never empty.
///
/// These are the ones that the environment variable `TENURE_ETCD` names (one path, or several with
/// colons between); else the `etcd` of the PATH; else each file `etcd` below `target/etcd` of the
/// workspace, where `tests/run` puts one.
///
/// # Errors
///
/// When there is none, or one that cannot be run. The text says what to do.
pub fn find_servers() -> Result<Vec<EtcdBinary>, Error> {
    let paths = match env::var_os("TENURE_ETCD") {
        Some(list) => env::split_paths(&list).filter(|path| !path.as_os_str().is_empty()).collect(),
        None => on_path("etcd").map_or_else(below_target, |etcd| vec![etcd]),
    };
    if paths.is_empty() {
        return Err(Error::new(
            "no etcd server to test on: run tests/run, which gets one, install etcd, or set \
             TENURE_ETCD to the path of one (several: colons between)",
        ));
    }
    paths.into_iter().map(EtcdBinary::at).collect()
}

fn parse_version(text: &str) -> Option<(u32, u32, u32)> {
    let version = text.lines().next()?.strip_prefix("etcd Version: ")?;
    let mut numbers = version.split(['.', '-', '+']).map(|number| number.trim().parse().ok());
    Some((numbers.next()??, numbers.next()??, numbers.next()??))
}

fn on_path(name: &str) -> Option<PathBuf> {
    let path = env::var_os("PATH")?;
    env::split_paths(&path).map(|dir| dir.join(name)).find(|file| file.is_file())
}

fn below_target() -> Vec<PathBuf> {
    let starts = [env::current_dir().ok(), env::var_os("CARGO_MANIFEST_DIR").map(PathBuf::from)];
    let found = starts.iter().flatten().flat_map(|start| start.ancestors());
    let Some(root) = found.map(|dir| dir.join("target/etcd")).find(|dir| dir.is_dir()) else {
        return Vec::new();
    };
    let mut files = Vec::new();
    collect(&root, &mut files);
    files.sort();
    files
}

fn collect(dir: &Path, files: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(dir).into_iter().flatten().flatten() {
        let path = entry.path();
        if path.is_dir() {
            collect(&path, files);
        } else if path.file_name().is_some_and(|name| name == "etcd") {
            files.push(path);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::parse_version;

    #[test]
    fn versions_are_read_from_what_etcd_prints() {
        assert_eq!(parse_version("etcd Version: 3.4.23\nGit SHA: x\n"), Some((3, 4, 23)));
        assert_eq!(parse_version("etcd Version: 3.6.0-rc.1\n"), Some((3, 6, 0)));
        assert_eq!(parse_version("etcdctl version: 3.5.1"), None);
        assert_eq!(parse_version(""), None);
    }
}
