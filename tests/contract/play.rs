//! A case, step by step.

use std::{
    collections::{BTreeMap, HashMap},
    fmt,
    time::Duration,
};

use prost::Message;
use prost_reflect::{MessageDescriptor, Value};
use serde_json::json;
use tokio::time::{sleep, timeout};

use super::answer::Answer;
use super::cases::Case;
use super::messages::{self, method};
use super::raw::Raw;
use super::steps::{Step, Want};
use super::streams::{Batch, Stream};
use super::target::{Server, Target};

/// How long an answer may take that a case has no time for.
const PATIENCE: Duration = Duration::from_secs(10);

/// A step that came to something else.
#[derive(Debug)]
pub(crate) struct Failure {
    step: usize,
    text: String,
}

/// A case at work.
#[derive(Debug)]
struct Player {
    server: Server,
    raw: Raw,
    variables: HashMap<String, Value>,
    /// Calls that go on, too: a call is a stream with one request and one answer.
    streams: HashMap<String, Stream>,
}

/// What a step came to.
struct Outcome {
    answer: Answer,
    /// What a message in its place would be.
    kind: Option<MessageDescriptor>,
    batches: Vec<Batch>,
}

/// Plays a case on a new server, if it can to its end, whatever it answers.
pub(crate) async fn play(case: &Case, target: &Target) -> Vec<Failure> {
    let server = target.start(case).await;
    let raw = Raw::connect(&server.endpoint()).await;
    let (variables, streams) = (HashMap::new(), HashMap::new());
    let mut player = Player { server, raw, variables, streams };
    let mut failures = Vec::new();
    let mut dies = false;
    for (number, step) in case.steps.iter().enumerate() {
        let Some(outcome) = player.take(step).await else { continue };
        let want = case.instead(target.column(), number).or_else(|| step.want());
        let want = want.expect("a step with an outcome has a wanted one");
        dies |= matches!(want, Want::Error { err } if err.is_lost_connection());
        failures.extend(judge(case, number, want, outcome));
        if let Some(name) = step.captures().find(|name| !player.variables.contains_key(*name)) {
            let text = format!("without {name} it cannot go on");
            failures.push(Failure { step: number, text });
            break;
        }
    }
    if !dies && !player.serves().await {
        let text = "the server does not answer any more".to_owned();
        failures.push(Failure { step: case.steps.len(), text });
    }
    failures
}

fn judge(case: &Case, number: usize, want: &Want, outcome: Outcome) -> Option<Failure> {
    let step = &case.steps[number];
    let want = Answer::recorded(want, outcome.kind.as_ref()).comparable(step.mask(), step.loose());
    let got = outcome.answer.comparable(step.mask(), step.loose());
    if got != want {
        let record = json!({ "id": case.id, "step": number, "want": got.to_json() }).to_string();
        let text = format!("want {want}\n     got  {got}\n     that is {record:.2000}");
        return Some(Failure { step: number, text });
    }
    match step {
        // How they are packed is a promise only where they are cut to pieces.
        Step::Collect { observed_batches: want, .. }
            if want.iter().any(|batch| batch.1) && *want != outcome.batches =>
        {
            let text = format!("want the batches {want:?}\n     got {:?}", outcome.batches);
            Some(Failure { step: number, text })
        }
        _ => None,
    }
}

impl Player {
    /// `None` for what is done without an answer.
    async fn take(&mut self, step: &Step) -> Option<Outcome> {
        match step {
            Step::Call { .. } => return Some(self.call(step).await),
            Step::Raw { path, body_b64, .. } => {
                let body = body_b64.0.clone();
                return Some(Outcome::of(self.unary(path, body, &[], None).await, None));
            }
            Step::Start { h, rpc, req_b64, .. } => {
                let mut call = Stream::open(&self.raw, &method(rpc), &[]);
                call.send(req_b64.0.clone());
                self.streams.insert(h.clone(), call);
            }
            Step::Pending { h, ms, .. } => {
                let call = self.stream(h);
                return Some(Outcome::of(call.peek(millis(*ms)).await, Some(call.kind())));
            }
            Step::Join { h, .. } => {
                let call = self.stream(h);
                return Some(Outcome::of(call.recv(PATIENCE).await, Some(call.kind())));
            }
            Step::Abort { h } => drop(self.streams.remove(h)),
            Step::Open { s, rpc, metadata } => {
                let stream = Stream::open(&self.raw, &method(rpc), &self.metadata(metadata));
                self.streams.insert(s.clone(), stream);
            }
            Step::Send { s, req_b64, .. } => self.stream(s).send(req_b64.0.clone()),
            Step::HalfClose { s } => self.stream(s).half_close(),
            Step::Recv { s, ms, .. } | Step::RecvNone { s, ms, .. } => {
                let stream = self.stream(s);
                return Some(Outcome::of(stream.recv(millis(*ms)).await, Some(stream.kind())));
            }
            Step::Collect { s, n, watch_id, .. } => {
                let stream = self.stream(s);
                let (answer, batches) = stream.collect(*n, *watch_id, PATIENCE).await;
                return Some(Outcome { batches, ..Outcome::of(answer, Some(stream.kind())) });
            }
            Step::Snapshot { metadata, .. } => {
                let method = method("etcdserverpb.Maintenance/Snapshot");
                let stream = Stream::open(&self.raw, &method, &self.metadata(metadata));
                return Some(Outcome::of(stream.snapshot(PATIENCE).await, None));
            }
            Step::Sleep { ms } => sleep(millis(*ms)).await,
            Step::Restart { sig } => {
                self.server.restart(*sig).await;
                self.raw = Raw::connect(&self.server.endpoint()).await;
            }
        }
        None
    }

    async fn call(&mut self, step: &Step) -> Outcome {
        let Step::Call { rpc, req_b64, metadata, expand, fill, capture, .. } = step else {
            unreachable!("{step:?} is no call")
        };
        let (input, output) = (method(rpc).input(), method(rpc).output());
        let mut request = req_b64.0.clone();
        if !(expand.is_empty() && fill.is_empty()) {
            let mut message = messages::decode(&input, &request).expect("it has fields to fill");
            for more in expand {
                let value = Value::Bytes(vec![more.byte; more.len].into());
                *messages::at(&mut message, &more.path).expect("a path to a field") = value;
            }
            for (path, name) in fill {
                let value = self.variables[name].clone();
                *messages::at(&mut message, path).expect("a path to a field") = value;
            }
            request = message.encode_to_vec();
        }
        let metadata = self.metadata(metadata);
        let mut answer = self.unary(&format!("/{rpc}"), request, &metadata, Some(&output)).await;
        if let Answer::Message(message) = &mut answer {
            for (name, path) in capture {
                let value = messages::at(message, path).map(|value| (name.clone(), value.clone()));
                self.variables.extend(value);
            }
        }
        Outcome::of(answer, Some(&output))
    }

    async fn unary(
        &self,
        path: &str,
        body: Vec<u8>,
        metadata: &[(&str, &str)],
        output: Option<&MessageDescriptor>,
    ) -> Answer {
        let answer = timeout(PATIENCE, self.raw.unary(path, body, metadata)).await;
        answer.map_or(Answer::Nothing, |answer| Answer::unary(answer, output))
    }

    /// Whether there is an answer at all, be it a refusal.
    async fn serves(&self) -> bool {
        let any = self.unary("/etcdserverpb.Maintenance/Status", Vec::new(), &[], None).await;
        !matches!(any, Answer::Broken | Answer::Nothing)
    }

    fn stream(&mut self, name: &str) -> &mut Stream {
        self.streams.get_mut(name).unwrap_or_else(|| panic!("{name} was never opened"))
    }

    /// With the variables it names put in.
    fn metadata<'a>(&'a self, metadata: &'a BTreeMap<String, String>) -> Vec<(&'a str, &'a str)> {
        let value = |text: &'a str| match text.strip_prefix('$') {
            Some(name) => self.variables[name].as_str().expect("a token is a text"),
            None => text,
        };
        metadata.iter().map(|(name, text)| (&name[..], value(text))).collect()
    }
}

impl Outcome {
    fn of(answer: Answer, kind: Option<&MessageDescriptor>) -> Self {
        Self { answer, kind: kind.cloned(), batches: Vec::new() }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "  step {}: {}", self.step, self.text)
    }
}

fn millis(ms: u64) -> Duration {
    Duration::from_millis(ms)
}
