use std::{
    collections::HashMap,
    error::Error,
    fmt,
    sync::{Mutex, MutexGuard, PoisonError},
};

use super::Fence;

/// Keeps a resource outside etcd from those who held its lock in the past.
///
/// It remembers the highest [`Fence`] seen for each name, and admits only that one and newer
/// ones. So a holder that was paused, and woke when another had come to work already, is refused.
/// The rule is Chubby's and Kleppmann's; see [`Fence`].
///
/// It may be shared: [`admit`](Self::admit) is one step. What it cannot do is keep somebody out
/// who was admitted before: check and use are one only where the resource makes them so, under a
/// lock of its own or in a transaction.
///
/// It remembers in memory. A resource that outlives its process stores the highest fence beside
/// its data, and has it admitted first when it starts again.
///
/// ```
/// use tenure_core::{Fence, FenceGate};
///
/// let gate = FenceGate::new();
/// let ours: Fence = "7.7@cdf818194e3a8c32/a1/tenure/mutex/jobs/a1-0".parse()?;
/// let next: Fence = "9.9@cdf818194e3a8c32/b2/tenure/mutex/jobs/b2-0".parse()?;
///
/// gate.admit("jobs", &ours)?;
/// gate.admit("jobs", &ours)?;
/// gate.admit("jobs", &next)?;
/// let refused = gate.admit("jobs", &ours).unwrap_err();
/// assert_eq!(refused.highest(), Some(&next));
/// # Ok::<_, Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Default)]
pub struct FenceGate {
    cluster_id: Option<u64>,
    highest: Mutex<HashMap<String, Fence>>,
}

/// Why a [`FenceGate`] refused a fence: it is older than one seen before, or of another cluster.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StaleFence(Box<Refusal>);

#[derive(Clone, Debug, PartialEq, Eq)]
struct Refusal {
    name: String,
    fence: Fence,
    against: Against,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Against {
    Highest(Fence),
    Cluster(u64),
}

impl FenceGate {
    /// Nothing was seen so far. For each name, the first fence decides which cluster counts.
    pub fn new() -> Self {
        Self::default()
    }

    /// The same, for fences of this cluster only.
    pub fn of_cluster(cluster_id: u64) -> Self {
        Self { cluster_id: Some(cluster_id), ..Self::default() }
    }

    /// Admits the fence if none that is newer was seen for this name, and remembers it.
    pub fn admit(&self, name: &str, fence: &Fence) -> Result<(), StaleFence> {
        let refuse = |against| {
            let (name, fence) = (name.to_owned(), fence.clone());
            Err(StaleFence(Box::new(Refusal { name, fence, against })))
        };
        let mut seen = self.seen();
        match seen.get_mut(name) {
            Some(highest) if *fence >= *highest => highest.clone_from(fence),
            Some(highest) => return refuse(Against::Highest(highest.clone())),
            None => {
                if let Some(cluster_id) = self.cluster_id.filter(|&id| id != fence.cluster_id) {
                    return refuse(Against::Cluster(cluster_id));
                }
                seen.insert(name.to_owned(), fence.clone());
            }
        }
        Ok(())
    }

    /// The highest fence admitted for this name.
    pub fn highest(&self, name: &str) -> Option<Fence> {
        self.seen().get(name).cloned()
    }

    fn seen(&self) -> MutexGuard<'_, HashMap<String, Fence>> {
        // Nothing that can panic leaves it half done.
        self.highest.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl StaleFence {
    /// The name it was shown for.
    pub fn name(&self) -> &str {
        &self.0.name
    }

    /// The fence that was refused.
    pub fn fence(&self) -> &Fence {
        &self.0.fence
    }

    /// The highest fence admitted for the name. `None` if there was none, and the cluster is not
    /// the gate's.
    pub fn highest(&self) -> Option<&Fence> {
        match &self.0.against {
            Against::Highest(highest) => Some(highest),
            Against::Cluster(_) => None,
        }
    }
}

impl fmt::Display for StaleFence {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Refusal { name, fence, against } = &*self.0;
        write!(f, "the fence {fence} for {name:?} is refused: ")?;
        match against {
            Against::Highest(highest) if highest.cluster_id != fence.cluster_id => {
                write!(f, "it must be of the same cluster as {highest}, which was seen before")
            }
            Against::Highest(highest) => {
                write!(f, "it must not be older than {highest}, which was seen before")
            }
            Against::Cluster(id) => write!(f, "it must be of the cluster {id:x}"),
        }
    }
}

impl Error for StaleFence {}
