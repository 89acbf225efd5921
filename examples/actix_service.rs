//! A lock in a web service: one request at a time changes the stock, whichever instance gets it.
//!
//!     cargo run --example actix_service

use std::time::Duration;

use actix::{Actor, Context, Handler};
use actix_web::{App, HttpResponse, HttpServer, error::ErrorServiceUnavailable, web};
use tenure::{Client, Session, SessionConfig, actor};
use tenure_testkit::Playground;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

/// Hears how it stands with the session that all locks hang on.
struct Health;

impl Actor for Health {
    type Context = Context<Self>;
}

impl Handler<actor::SessionEvent> for Health {
    type Result = ();

    fn handle(&mut self, event: actor::SessionEvent, _: &mut Context<Self>) {
        println!("session {}: {:?}", event.lease, event.state);
    }
}

async fn order(session: web::Data<Session>) -> actix_web::Result<HttpResponse> {
    let lock = actor::MutexActor::new(&session, "stock").start();
    let soon = actor::AcquireLock::new().timeout(Duration::from_secs(5));
    let answer = lock.send(soon).await.map_err(ErrorServiceUnavailable)?;
    let fence = answer.map_err(ErrorServiceUnavailable)?;
    // ... change the stock, and show it the fence ...
    let answer = lock.send(actor::ReleaseLock).await.map_err(ErrorServiceUnavailable)?;
    answer.map_err(ErrorServiceUnavailable)?;
    Ok(HttpResponse::Ok().body(format!("ordered under {fence}\n")))
}

#[actix_web::main]
async fn main() -> anyhow::Result<()> {
    let playground = Playground::new().await?;
    let client = Client::connect(playground.endpoints()).await?;
    let keeper = actor::SessionActor::new(client.clone(), SessionConfig::new()).start();
    let session = keeper.send(actor::OpenSession).await??;
    let health = Health.start();
    keeper.send(actor::SubscribeSession(health.recipient())).await?;

    let data = web::Data::new(session.clone());
    let app = move || App::new().app_data(data.clone()).route("/order", web::post().to(order));
    let server = HttpServer::new(app).workers(1).bind(("127.0.0.1", 0))?;
    let address = server.addrs()[0];
    actix_web::rt::spawn(server.run());

    let mut customer = tokio::net::TcpStream::connect(address).await?;
    customer.write_all(b"POST /order HTTP/1.0\r\nContent-Length: 0\r\n\r\n").await?;
    let mut answer = String::new();
    customer.read_to_string(&mut answer).await?;
    println!("POST http://{address}/order: {}", answer.lines().last().unwrap_or_default());
    session.close().await?;
    Ok(())
}
