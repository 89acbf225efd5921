use std::collections::BTreeSet;
use std::path::Path;
use std::sync::{Arc, MutexGuard, PoisonError};
use std::{fs, io};

use super::Cluster;
use crate::Error;

impl Cluster {
    /// Cuts a member off from the others, both ways. Clients still reach it.
    ///
    /// Open connections are reset, and new ones hear nothing. All members dial the one URL of a
    /// member, so the proxy before each tells them apart: by the process whose socket dialled.
    ///
    /// # Errors
    ///
    /// When the cluster was started without [`Builder::proxied_peers`](super::Builder), or there
    /// is no /proc.
    pub fn isolate(&self, index: usize) -> Result<(), Error> {
        if self.links.is_empty() {
            return Err(Error::new("isolate needs a cluster with proxied_peers(true)"));
        }
        dialled(std::process::id(), 0, 0).map_err(Error::io("isolate needs /proc"))?;
        let mut isolated = self.isolated();
        isolated.insert(index);
        self.part(&isolated);
        Ok(())
    }

    /// Ends the isolation of a member. The others find it again within their own time.
    pub fn heal(&self, index: usize) {
        let mut isolated = self.isolated();
        isolated.remove(&index);
        self.part(&isolated);
    }

    fn part(&self, isolated: &BTreeSet<usize>) {
        for (index, link) in self.links.iter().enumerate() {
            let isolated = isolated.clone();
            // Weak: the members end with the cluster, not with the last task of a proxy.
            let members = Arc::downgrade(&self.members);
            let port = link.port();
            link.admit_only(move |dialler| {
                let Some(members) = members.upgrade() else { return false };
                let mut alone = isolated.iter().filter_map(|index| members[*index].pid());
                // A process that is gone has dialled nobody.
                let by_it = |pid| dialled(pid, dialler.port(), port).unwrap_or(false);
                isolated.is_empty() || !isolated.contains(&index) && !alone.any(by_it)
            });
        }
    }

    /// The members that run, and are not isolated.
    pub(super) fn reachable(&self) -> Vec<usize> {
        let isolated = self.isolated();
        let open = |index: &usize| self.members[*index].is_running() && !isolated.contains(index);
        (0..self.members.len()).filter(open).collect()
    }

    fn isolated(&self) -> MutexGuard<'_, BTreeSet<usize>> {
        self.isolated.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Whether a process has a TCP connection from this local port to that remote one.
fn dialled(pid: u32, from: u16, to: u16) -> io::Result<bool> {
    let process = Path::new("/proc").join(pid.to_string());
    let table = fs::read_to_string(process.join("net/tcp"))?;
    let mut entries = table.lines().filter_map(entry);
    let Some((.., socket)) = entries.find(|(local, remote, _)| (*local, *remote) == (from, to))
    else {
        return Ok(false);
    };
    let link = format!("socket:[{socket}]");
    let files = fs::read_dir(process.join("fd"))?;
    let mut links = files.filter_map(|file| fs::read_link(file.ok()?.path()).ok());
    Ok(links.any(|open| open.as_os_str() == link.as_str()))
}

/// Local port, remote port, and socket number in a line of /proc/net/tcp.
fn entry(line: &str) -> Option<(u16, u16, &str)> {
    let mut fields = line.split_whitespace().skip(1);
    let mut port = || u16::from_str_radix(fields.next()?.split_once(':')?.1, 16).ok();
    let (local, remote) = (port()?, port()?);
    Some((local, remote, fields.nth(6)?))
}
