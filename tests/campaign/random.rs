use std::{ops::Range, time::Duration};

/// SplitMix64.
#[derive(Clone, Debug)]
pub(crate) struct Random(u64);

impl Random {
    pub(crate) fn new(seed: u64) -> Self {
        Self(seed)
    }

    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        mixed ^ (mixed >> 31)
    }

    pub(crate) fn within(&mut self, range: Range<u64>) -> u64 {
        range.start + self.next() % (range.end - range.start)
    }

    pub(crate) fn one_in(&mut self, many: u64) -> bool {
        self.within(0..many) == 0
    }

    pub(crate) fn millis(&mut self, range: Range<u64>) -> Duration {
        Duration::from_millis(self.within(range))
    }

    pub(crate) fn fork(&mut self) -> Self {
        Self(self.next())
    }
}

/// Cards drawn one after the other in any order, and again when all of them were. The first that
/// is drawn is the first that was put in.
#[derive(Debug)]
pub(crate) struct Deck<T> {
    cards: Vec<T>,
    drawn: usize,
    begun: bool,
}

impl<T: Copy> Deck<T> {
    pub(crate) fn new(cards: impl IntoIterator<Item = T>) -> Self {
        Self { cards: cards.into_iter().collect(), drawn: 0, begun: false }
    }

    pub(crate) fn draw(&mut self, random: &mut Random) -> T {
        let left = if self.begun { self.cards.len() - self.drawn } else { 1 };
        self.begun = true;
        let place = self.drawn + random.within(0..left as u64) as usize;
        self.cards.swap(self.drawn, place);
        let card = self.cards[self.drawn];
        self.drawn = (self.drawn + 1) % self.cards.len();
        card
    }
}
