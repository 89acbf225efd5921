//! Many of something, of which few are left when that is enough for a failure: halves go first,
//! where proptest's own takes them one by one.

use std::{fmt::Debug, ops::Range};

use proptest::{
    strategy::{NewTree, Strategy, ValueTree},
    test_runner::TestRunner,
};

#[derive(Debug)]
pub(crate) struct Many<S> {
    of: S,
    count: Range<usize>,
}

pub(crate) fn many<S: Strategy>(of: S, count: Range<usize>) -> Many<S> {
    Many { of, count }
}

impl<S: Strategy> Strategy for Many<S> {
    type Tree = Tree<S::Tree>;
    type Value = Vec<S::Value>;

    fn new_tree(&self, runner: &mut TestRunner) -> NewTree<Self> {
        let count = self.count.new_tree(runner)?.current();
        let kept = (0..count).map(|_| self.of.new_tree(runner)).collect::<Result<Vec<_>, _>>()?;
        Ok(Tree { next: Next::Chunk { size: count, start: 0 }, kept, taken: None })
    }
}

pub(crate) struct Tree<T> {
    kept: Vec<T>,
    next: Next,
    /// What the last step took, and where from.
    taken: Option<(usize, Vec<T>)>,
}

enum Next {
    /// Take these.
    Chunk { size: usize, start: usize },
    /// Make this one simpler.
    One { place: usize },
}

impl<T: ValueTree> ValueTree for Tree<T> {
    type Value = Vec<T::Value>;

    fn current(&self) -> Self::Value {
        self.kept.iter().map(ValueTree::current).collect()
    }

    fn simplify(&mut self) -> bool {
        self.taken = None;
        loop {
            match self.next {
                Next::Chunk { size: 0, .. } => self.next = Next::One { place: 0 },
                Next::Chunk { size, start } if start >= self.kept.len() => {
                    self.next = Next::Chunk { size: size / 2, start: 0 };
                }
                Next::Chunk { size, start } => {
                    let end = self.kept.len().min(start + size);
                    self.taken = Some((start, self.kept.drain(start..end).collect()));
                    return true;
                }
                Next::One { place } => match self.kept.get_mut(place) {
                    None => return false,
                    Some(one) => match one.simplify() {
                        true => return true,
                        false => self.next = Next::One { place: place + 1 },
                    },
                },
            }
        }
    }

    /// Goes on at once: that a sequence fails which failed before is not worth a run.
    fn complicate(&mut self) -> bool {
        match (self.taken.take(), &mut self.next) {
            (Some((place, taken)), Next::Chunk { start, .. }) => {
                *start += taken.len();
                self.kept.splice(place..place, taken);
            }
            (_, Next::One { place }) => {
                if self.kept.get_mut(*place).is_some_and(ValueTree::complicate) {
                    return true;
                }
                *place += 1;
            }
            (None, Next::Chunk { .. }) => {}
        }
        self.simplify()
    }
}
