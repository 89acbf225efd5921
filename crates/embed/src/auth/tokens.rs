use std::{collections::HashMap, fmt, sync::Arc, time::Duration};

use tokio::time::Instant;
use uuid::Uuid;

const DEFAULT_TTL: Duration = Duration::from_secs(300);

/// The tokens that are good, each until it was idle for too long.
pub(super) struct Tokens {
    ttl: Duration,
    good: HashMap<String, Token>,
    /// When so many are held, the dead ones among them go.
    sweep_at: usize,
}

struct Token {
    user: Arc<str>,
    /// Never, if the clock cannot count so far.
    until: Option<Instant>,
}

impl Token {
    fn is_dead(&self, now: Instant) -> bool {
        self.until.is_some_and(|until| until < now)
    }
}

impl Tokens {
    pub(super) fn new(ttl: Duration) -> Self {
        let ttl = if ttl.is_zero() { DEFAULT_TTL } else { ttl };
        Self { ttl, good: HashMap::new(), sweep_at: 64 }
    }

    pub(super) fn issue(&mut self, user: &str, now: Instant) -> String {
        self.sweep(now);
        let name = Uuid::new_v4().simple().to_string();
        let token = Token { user: user.into(), until: now.checked_add(self.ttl) };
        self.good.insert(name.clone(), token);
        name
    }

    /// Whose it is, if it is good; its time begins again.
    pub(super) fn renew(&mut self, name: &str, now: Instant) -> Option<Arc<str>> {
        let token = self.good.get_mut(name)?;
        if token.is_dead(now) {
            self.good.remove(name);
            return None;
        }
        token.until = now.checked_add(self.ttl);
        Some(Arc::clone(&token.user))
    }

    /// How many are good.
    pub(super) fn count(&self, now: Instant) -> usize {
        self.good.values().filter(|token| !token.is_dead(now)).count()
    }

    pub(super) fn forget_user(&mut self, user: &str) {
        self.good.retain(|_, token| &*token.user != user);
    }

    pub(super) fn forget_all(&mut self) {
        self.good.clear();
    }

    fn sweep(&mut self, now: Instant) {
        if self.good.len() >= self.sweep_at {
            self.good.retain(|_, token| !token.is_dead(now));
            self.sweep_at = 64.max(2 * self.good.len());
        }
    }
}

impl fmt::Debug for Tokens {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tokens").field("good", &self.good.len()).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TTL: Duration = Duration::from_secs(2);

    fn after(seconds: f64, start: Instant) -> Instant {
        start + Duration::from_secs_f64(seconds)
    }

    #[test]
    fn a_token_ends_when_it_was_idle_for_longer_than_its_ttl() {
        let (start, mut tokens) = (Instant::now(), Tokens::new(TTL));
        let token = tokens.issue("al", start);
        assert_eq!(tokens.renew(&token, after(2.0, start)).as_deref(), Some("al"));
        assert_eq!(tokens.renew(&token, after(4.1, start)), None);
        assert_eq!(tokens.renew(&token, start), None, "a dead token stays dead");
    }

    #[test]
    fn each_use_keeps_a_token_alive() {
        let (start, mut tokens) = (Instant::now(), Tokens::new(TTL));
        let token = tokens.issue("al", start);
        for step in 1..=10 {
            assert!(tokens.renew(&token, after(1.2 * f64::from(step), start)).is_some());
        }
    }

    #[test]
    fn a_ttl_of_zero_is_five_minutes_and_a_huge_one_is_for_ever() {
        let start = Instant::now();
        let mut tokens = Tokens::new(Duration::ZERO);
        let token = tokens.issue("al", start);
        assert!(tokens.renew(&token, after(299.0, start)).is_some());
        assert!(tokens.renew(&token, after(600.0, start)).is_none());
        let mut tokens = Tokens::new(Duration::MAX);
        let token = tokens.issue("al", start);
        assert!(tokens.renew(&token, after(1e9, start)).is_some());
    }

    #[test]
    fn dead_tokens_do_not_pile_up() {
        let (start, mut tokens) = (Instant::now(), Tokens::new(TTL));
        for step in 0..10_000 {
            tokens.issue("al", after(f64::from(step), start));
        }
        assert!(tokens.good.len() < 100);
    }

    #[test]
    fn tokens_are_forgotten_for_one_user_alone() {
        let (now, mut tokens) = (Instant::now(), Tokens::new(TTL));
        let (al, again, bo) =
            (tokens.issue("al", now), tokens.issue("al", now), tokens.issue("bo", now));
        assert_ne!(al, again);
        tokens.forget_user("al");
        assert_eq!(tokens.renew(&al, now), None);
        assert_eq!(tokens.renew(&again, now), None);
        assert_eq!(tokens.renew(&bo, now).as_deref(), Some("bo"));
    }

    #[test]
    fn tokens_are_not_shown() {
        let mut tokens = Tokens::new(TTL);
        let token = tokens.issue("al", Instant::now());
        assert!(!format!("{tokens:?}").contains(&token));
    }
}
