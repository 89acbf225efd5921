use tokio::{runtime::Builder, task::LocalSet};

use crate::TestServer;

/// Runs a test of a service in virtual time: an embedded server, its clients and the test on one
/// thread, where an hour is over as soon as nobody has anything left to do in it.
///
/// Clients come from [`TestServer::client`] or [`TestServer::connect`] of the server that `test`
/// is given; theirs is the same time. So is that of [`tokio::time::sleep`] and of whatever else
/// waits by tokio's timers, the service's own tasks too, as long as they run on this thread:
/// [`tokio::spawn`] and [`tokio::task::spawn_local`] do that here.
///
/// What nobody waits for costs nothing. A kept lease looks at the clock once a second, and a client
/// that watches asks every 5 s whether its server is still there: an hour of them takes tens of
/// milliseconds, a few times that without optimisations.
///
/// Real sockets, other processes and threads, a client of its own thread among them, keep real
/// time: waiting for one of them, virtual time rushes by.
///
/// It is short for a [`LocalSet`] on a current-thread runtime whose time is paused, with
/// [`Embedded::builder`](crate::Embedded::builder)`().in_process()` and clients by
/// [`Embedded::connect`](crate::Embedded::connect)`().local()`.
///
/// # Example
///
/// A nightly job that one instance of a service does at a time, and whoever waits for it when the
/// first one is stuck:
///
/// ```
/// use std::time::Duration;
/// use tenure::{Client, Mutex, MutexGuard, Session};
/// use tenure_testkit::virtual_time;
///
/// /// The service: waits until it is its turn to make the report.
/// async fn turn(client: &Client) -> tenure::Result<(Session, MutexGuard)> {
///     let session = Session::builder().ttl(Duration::from_secs(3600)).open(client).await?;
///     let guard = Mutex::new(&session, "nightly-report").acquire().await?;
///     Ok((session, guard))
/// }
///
/// // #[test]
/// // fn the_report_passes_on_when_the_first_instance_is_gone_for_an_hour() {
/// virtual_time(async |server| {
///     let (first, second) = (server.client().await?, server.client().await?);
///     let (session, guard) = turn(&first).await?;
///     let waiting = tokio::spawn(async move { turn(&second).await });
///
///     // Kept for as long as it lives...
///     tokio::time::sleep(Duration::from_secs(3600)).await;
///     assert!(guard.is_held() && !waiting.is_finished());
///
///     // ... and when its instance is gone without a word, its lease expires and the lock passes.
///     let gone = tokio::time::Instant::now();
///     session.orphan().await?;
///     let (_, next) = waiting.await??;
///     assert!(next.fence() > guard.fence());
///     assert!(gone.elapsed() > Duration::from_secs(2400));
///     Ok::<_, Box<dyn std::error::Error>>(())
/// })
/// .unwrap();
/// // }
/// ```
///
/// # Panics
///
/// When `test` does, when called on a thread that already runs a tokio runtime, and when there
/// can be no runtime.
pub fn virtual_time<T>(test: impl AsyncFnOnce(TestServer) -> T) -> T {
    let runtime = Builder::new_current_thread().enable_all().start_paused(true).build();
    let runtime = runtime.unwrap_or_else(|error| panic!("no runtime for a test: {error}"));
    LocalSet::new().block_on(&runtime, async {
        let server = TestServer::start_here().await;
        test(server.unwrap_or_else(|error| panic!("{error}"))).await
    })
}
