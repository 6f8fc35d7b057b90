//! Spans of recorded traces: one for the publish, one for each attempt.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use domain::testing::TEST_START;
use domain::trace::TraceContext;
use engine::scope::Scope;
use engine::settings::Settings;
use engine::trace::{Span, Spans, Work};
use engine::{Engine, Parts};
use store::memory::MemoryStore;
use testkit::doubles::{Reply, ScriptedSender, SeededEntropy, TestClock};

use crate::harness::{Scene, an_event};

const URL: &str = "https://your-domain.com/webhook";

/// Keeps every span.
#[derive(Default)]
struct Kept(Mutex<Vec<Span>>);

impl Spans for Kept {
    fn ended(&self, span: Span) {
        self.0.lock().unwrap().push(span);
    }
}

async fn scene(spans: &Arc<Kept>) -> Scene {
    let (sender, clock) = (ScriptedSender::new(), Arc::new(TestClock::starting_at(TEST_START)));
    let parts = Parts {
        store: Arc::new(MemoryStore::new()),
        sender: Arc::new(sender.clone()),
        clock: clock.clone(),
        entropy: Arc::new(SeededEntropy::new(7)),
        sealing: None,
        spans: Some(Arc::clone(spans) as _),
        settings: Settings::default(),
    };
    let (engine, _) = Engine::start(parts).await.unwrap();
    Scene { engine, sender, clock }
}

#[tokio::test(start_paused = true)]
async fn a_recorded_trace_has_the_publish_and_under_it_each_attempt_as_its_receiver_was_told() {
    let spans = Arc::<Kept>::default();
    let scene = scene(&spans).await;
    let (account, _) = scene.subscriber("john", URL).await;
    let slow = Reply::status(500).after(Duration::from_millis(30));
    scene.sender.script(URL, [slow, Reply::status(200)]);
    let publisher = TraceContext { trace_id: 5, parent_id: 6, flags: 1 };
    let mut event = an_event(&account);
    event.trace = Some(publisher);
    let published = scene.engine.publish(Scope::OPERATOR, event, None).await.unwrap();
    scene.drain().await;

    let spans = spans.0.lock().unwrap().clone();
    let [publish, first, second] = spans.as_slice() else { panic!("{spans:#?}") };
    assert_eq!(publish.parent, publisher);
    let Work::Publish { event, deliveries: 1, .. } = publish.work else { panic!("{publish:?}") };
    assert_eq!(event, published.id);
    let delivery = scene.delivery().await;
    for ((attempt, sent), expected) in
        [first, second].into_iter().zip(scene.sender.requests()).zip(1..)
    {
        assert_eq!(attempt.parent, publisher.under(publish.id));
        let told = TraceContext::parse(sent.header("traceparent").unwrap());
        assert_eq!(told, Some(publisher.under(attempt.id)));
        let Work::Attempt { delivery: of, number, .. } = attempt.work else {
            panic!("{attempt:?}")
        };
        assert_eq!((of, number), (delivery.id, expected));
    }
    assert_eq!(first.duration, Duration::from_millis(30));
    assert!(second.started_at > first.started_at.plus(first.duration));
}

#[tokio::test(start_paused = true)]
async fn a_trace_that_its_publisher_does_not_record_has_no_spans() {
    let spans = Arc::<Kept>::default();
    let scene = scene(&spans).await;
    let (account, _) = scene.subscriber("john", URL).await;
    for trace in [None, Some(TraceContext { trace_id: 5, parent_id: 6, flags: 0 })] {
        let mut event = an_event(&account);
        event.trace = trace;
        scene.engine.publish(Scope::OPERATOR, event, None).await.unwrap();
    }
    scene.drain().await;
    assert_eq!(scene.sender.requests().len(), 2);
    assert_eq!(*spans.0.lock().unwrap(), []);
}
