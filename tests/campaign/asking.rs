//! How a worker asks for what it may have to wait for.

use std::time::Duration;

use tenure::Acquire;
use tokio::time::{sleep, timeout};

use crate::{
    journal::{Event, failed, say},
    random::Random,
};

/// Long for a turn among twenty, also when some of them are dead until their leases are over.
const PATIENCE: Duration = Duration::from_secs(30);

/// As a rule it waits until it is granted; now and then it gives up, in one way or another.
pub(crate) async fn ask<G>(acquire: Acquire<G>, random: &mut Random) -> Option<G> {
    say(Event::Waiting);
    let span = random.millis(1..300);
    let acquired = match random.within(0..20) {
        // Gives up by dropping it.
        0 => timeout(span, acquire.into_future()).await.ok()?,
        1 => acquire.timeout(span).await,
        _ => acquire.timeout(PATIENCE).await,
    };
    match acquired {
        Ok(granted) => Some(granted),
        Err(error) => {
            failed("acquire", &error);
            sleep(random.millis(1..20)).await;
            None
        }
    }
}
