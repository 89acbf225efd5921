use std::collections::{BTreeSet, HashSet};
use std::net::SocketAddr;
use std::path::Path;
use std::sync::{Arc, MutexGuard, PoisonError};
use std::{fs, io};

use super::{Cluster, Member};
use crate::Error;

impl Cluster {
    /// Cuts a member off from the others, both ways. Clients still reach it.
    ///
    /// Members dial each other, and all of them dial one URL: the proxy before the member resets
    /// whoever dials it, and the proxies before the others reset those that it dialled, known by
    /// the ports that its process has open.
    ///
    /// # Errors
    ///
    /// When the cluster was started without [`Builder::proxied_peers`](super::Builder), or this is
    /// not Linux.
    pub fn isolate(&self, index: usize) -> Result<(), Error> {
        if self.links.is_empty() {
            return Err(Error::new("isolate needs a cluster with proxied_peers(true)"));
        }
        ports_of(std::process::id()).map_err(Error::io("isolate needs Linux and its /proc"))?;
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
            link.admit_only(move |dialler| {
                let Some(members) = members.upgrade() else { return false };
                isolated.is_empty()
                    || !isolated.contains(&index) && !is_of(dialler, &members, &isolated)
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

/// Whether one of these members has dialled from this address.
fn is_of(dialler: SocketAddr, members: &[Member], isolated: &BTreeSet<usize>) -> bool {
    let mut pids = isolated.iter().filter_map(|index| members[*index].pid());
    // A process that is gone has no ports.
    pids.any(|pid| ports_of(pid).is_ok_and(|ports| ports.contains(&dialler.port())))
}

/// The local TCP ports that a process has open.
fn ports_of(pid: u32) -> io::Result<HashSet<u16>> {
    let process = Path::new("/proc").join(pid.to_string());
    let files = fs::read_dir(process.join("fd"))?;
    let sockets: HashSet<String> = files
        .filter_map(|file| fs::read_link(file.ok()?.path()).ok())
        .filter_map(|link| Some(link.to_str()?.strip_prefix("socket:[")?.strip_suffix(']')?.into()))
        .collect();
    let table = fs::read_to_string(process.join("net/tcp"))?;
    Ok(table
        .lines()
        .filter_map(entry)
        .filter(|(_, socket)| sockets.contains(*socket))
        .map(|(port, _)| port)
        .collect())
}

/// Local port and socket number in a line of /proc/net/tcp.
fn entry(line: &str) -> Option<(u16, &str)> {
    let mut fields = line.split_whitespace();
    let (_, port) = fields.nth(1)?.split_once(':')?;
    Some((u16::from_str_radix(port, 16).ok()?, fields.nth(7)?))
}
