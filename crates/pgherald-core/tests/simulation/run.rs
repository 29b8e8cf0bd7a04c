//! Plays one scenario from its first row to a clean stop.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

use pgherald_core::{
    Backoff, Envelope, EventNames, Flow, FlowContext, FlowEnd, FlowSettings, FlowState, FlowStatus,
    OnRejected, Ordering, Sink, Source,
};
use rand::{Rng, SeedableRng, rngs::SmallRng};
use tokio::{
    sync::watch,
    task::JoinHandle,
    time::{Instant, sleep},
};
use tokio_util::sync::CancellationToken;

use crate::{
    broker::{Broker, SharedBroker, SimSink},
    database::{Database, SharedDatabase, SimSource},
    letters::{Letters, SharedLetters, SimLetters},
    listener::{Listening, SharedListening, SimListener},
    oracle,
    scenario::{Scenario, Situation},
};

const DRAIN: Duration = Duration::from_secs(8);

/// How often each situation came up.
pub(crate) type Seen = BTreeMap<Situation, u64>;

pub(crate) fn run(scenario: Scenario) -> Seen {
    let seed = scenario.seed;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .start_paused(true)
        .build()
        .unwrap();
    let result = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
        runtime.block_on(async {
            match scenario.positions {
                true => with_positions(&scenario).await,
                false => without_positions(&scenario).await,
            }
        })
    }));
    match result {
        Ok(seen) => seen,
        Err(panic) => {
            eprintln!("PGHERALD_SEED={seed} fails: {scenario:#?}");
            std::panic::resume_unwind(panic)
        }
    }
}

struct Process {
    number: u64,
    stop: CancellationToken,
    status: watch::Receiver<FlowStatus>,
    task: JoinHandle<FlowEnd>,
}

fn start(
    scenario: &Scenario,
    name: &'static str,
    broker: &SharedBroker,
    letters: &SharedLetters,
    source: impl FnOnce(CancellationToken) -> Arc<dyn Source>,
) -> Process {
    let context = FlowContext {
        pipeline: "p".into(),
        source: "sim",
        sink: name.into(),
        channels: None,
        envelope: Envelope::None,
        events: EventNames::default(),
        budget: scenario.budget,
        batch: scenario.batch,
        message_bytes_max: scenario.message_bytes_max,
    };
    let settings = FlowSettings {
        context,
        on_rejected: scenario.on_rejected,
        backoff: Backoff::default(),
        jitter_seed: scenario.seed,
    };
    let stop = CancellationToken::new();
    let sink: Arc<dyn Sink> =
        Arc::new(SimSink { broker: Arc::clone(broker), ordering: scenario.ordering });
    let letters = Arc::new(SimLetters(Arc::clone(letters)));
    let flow = Flow::new(settings, source(stop.clone()), sink).with_dead_letters(letters);
    let status = flow.status();
    let task = tokio::task::spawn_local(flow.run(stop.clone(), DRAIN));
    Process { number: 0, stop, status, task }
}

fn start_reader(
    scenario: &Scenario,
    database: &SharedDatabase,
    broker: &SharedBroker,
    letters: &SharedLetters,
    flow: &'static str,
) -> Process {
    let (process, shared) = (database.lock().unwrap().new_process(), Arc::clone(database));
    let source =
        |stop| -> Arc<dyn Source> { Arc::new(SimSource { database: shared, flow, process, stop }) };
    Process { number: process, ..start(scenario, flow, broker, letters, source) }
}

/// One of the processes is to carry the flow from now on, if it does not yet.
fn hand_over(database: &SharedDatabase, processes: &[Process], dice: &mut SmallRng) {
    let carrier = processes[dice.random_range(0..processes.len())].number;
    database.lock().unwrap().carrier = Some(carrier);
}

async fn with_positions(scenario: &Scenario) -> Seen {
    tokio::task::LocalSet::new().run_until(with_positions_local(scenario)).await
}

async fn with_positions_local(scenario: &Scenario) -> Seen {
    let mut dice = SmallRng::seed_from_u64(scenario.seed ^ 0xabc);
    let mut seen = Seen::new();
    let (database, broker) = (Database::shared(scenario), Broker::shared(scenario));
    let dead = Broker::shared(scenario);
    dead.lock().unwrap().dead = true;
    let (letters, none) = (Letters::shared(scenario), Letters::shared(scenario));
    let mut processes: Vec<Process> = (0..scenario.processes)
        .map(|_| start_reader(scenario, &database, &broker, &letters, "live"))
        .collect();
    let neighbour =
        scenario.dead_neighbour.then(|| start_reader(scenario, &database, &dead, &none, "dead"));
    for _ in 0..scenario.steps {
        let most = if dice.random_bool(0.1) { 60 } else { 6 };
        database.lock().unwrap().commit(dice.random_range(0..most));
        let mut chance = |thousandths: u32| dice.random_range(0..1_000) < thousandths;
        if chance(scenario.session_loss) {
            database.lock().unwrap().lose_sessions();
        }
        if chance(scenario.rewind) {
            database.lock().unwrap().rewind();
        }
        if chance(scenario.outage) {
            broker.lock().unwrap().outage(Duration::from_millis(900));
        }
        if chance(scenario.kill) {
            let victim = processes.remove(0);
            if victim.status.borrow().in_flight_messages > 0 {
                *seen.entry(Situation::Killed).or_default() += 1;
            }
            victim.task.abort();
            let _ = victim.task.await;
            database.lock().unwrap().carrier.take_if(|carrier| *carrier == victim.number);
            processes.push(start_reader(scenario, &database, &broker, &letters, "live"));
        }
        if chance(50) {
            letters.lock().unwrap().ask(false);
        }
        if chance(scenario.hand_over) {
            hand_over(&database, &processes, &mut dice);
        }
        note_halt(&processes, &mut seen);
        sleep(Duration::from_millis(dice.random_range(0..120))).await;
    }
    if scenario.processes > 1 {
        *seen.entry(Situation::TwoProcesses).or_default() += 1;
        sleep(Duration::from_millis(30)).await;
        let carriers = processes.iter().filter(|process| carries(process)).count();
        assert!(carriers <= 1, "two processes carry one flow");
    }
    calm(&database, &broker);
    letters.lock().unwrap().calm = true;
    let neighbour = match neighbour {
        Some(neighbour) => {
            *seen.entry(Situation::DeadSinkBesideALiveOne).or_default() += 1;
            Some(neighbour)
        }
        None => None,
    };
    everything_settles(&database, &processes).await;
    dead_letters_arrive(&letters, || {
        if scenario.hand_over > 0 {
            hand_over(&database, &processes, &mut dice);
        }
    })
    .await;
    check_positions(scenario, &database, &broker, &letters);
    // Stops in the middle of traffic: what was read is delivered and acknowledged.
    database.lock().unwrap().commit(30);
    for process in processes.into_iter().chain(neighbour) {
        process.stop.cancel();
        let end = process.task.await.unwrap();
        assert_eq!(end.dropped, 0, "a source with positions drops nothing");
    }
    let ids = ids(&database, scenario);
    let cursor = database.lock().unwrap().flows["live"].cursor;
    let stored: BTreeSet<String> =
        broker.lock().unwrap().log.iter().map(|stored| stored.id.clone()).collect();
    for (place, id) in ids.iter().enumerate() {
        let arrived = stored.contains(id) || stored.contains(&id.replace("row-", "row-gap-"));
        let kept = letters.lock().unwrap().holds(id);
        assert!(place >= cursor || arrived || kept, "{id} is acknowledged and not stored");
    }
    collect(&mut seen, &database.lock().unwrap().seen);
    collect(&mut seen, &broker.lock().unwrap().seen);
    collect(&mut seen, &letters.lock().unwrap().seen);
    seen
}

fn carries(process: &Process) -> bool {
    process.status.borrow().state == FlowState::Running
}

fn note_halt(processes: &[Process], seen: &mut Seen) {
    for process in processes {
        let status = process.status.borrow();
        if status.state == FlowState::Halted && status.in_flight_messages > 1 {
            *seen.entry(Situation::HaltedWithLaterOnesWaiting).or_default() += 1;
        }
    }
}

fn calm(database: &SharedDatabase, broker: &SharedBroker) {
    broker.lock().unwrap().calm = true;
    let mut database = database.lock().unwrap();
    database.calm = true;
    // The operator repairs the rows that nobody could read.
    if database.rows.iter().any(|row| row.unreadable) {
        database.rows.iter_mut().for_each(|row| row.unreadable = false);
        // What a halted flow holds in memory is read again.
        database.lose_sessions();
    }
}

async fn everything_settles(database: &SharedDatabase, processes: &[Process]) {
    let deadline = Instant::now() + Duration::from_secs(300);
    loop {
        {
            let database = database.lock().unwrap();
            if database.flows.get("live").is_some_and(|flow| flow.cursor == database.rows.len()) {
                break;
            }
            let states: Vec<_> = processes.iter().map(|p| p.status.borrow().clone()).collect();
            assert!(
                Instant::now() < deadline,
                "stuck at {:?} of {}: {states:?}",
                database.flows.get("live"),
                database.rows.len()
            );
        }
        sleep(Duration::from_millis(50)).await;
    }
}

/// The operator asks for everything that is kept; what is asked for arrives.
async fn dead_letters_arrive(letters: &SharedLetters, mut meanwhile: impl FnMut()) {
    let deadline = Instant::now() + Duration::from_secs(300);
    while !letters.lock().unwrap().all_arrived() {
        assert!(Instant::now() < deadline, "dead letters are stuck: {:?}", letters.lock());
        letters.lock().unwrap().ask(true);
        meanwhile();
        sleep(Duration::from_millis(500)).await;
    }
}

/// The ids that must have arrived, in source order: a skipped message by the gap in its place.
fn ids(database: &SharedDatabase, scenario: &Scenario) -> Vec<String> {
    let database = database.lock().unwrap();
    let id = |row: &crate::database::Row| {
        let large = row.size > scenario.message_bytes_max;
        assert!(!large, "no row of a simulation is that large");
        format!("row-{}", row.content)
    };
    database.rows.iter().map(id).collect()
}

fn check_positions(
    scenario: &Scenario,
    database: &SharedDatabase,
    broker: &SharedBroker,
    letters: &SharedLetters,
) {
    let ids = ids(database, scenario);
    let log = broker.lock().unwrap().log.clone();
    let stored: BTreeSet<&str> = log.iter().map(|stored| stored.id.as_str()).collect();
    let mut order = Vec::new();
    for id in &ids {
        let gap = id.replace("row-", "row-gap-");
        let (arrived, skipped) = (stored.contains(id.as_str()), stored.contains(gap.as_str()));
        assert!(arrived || skipped, "{id} is lost: {log:?}");
        let may_skip = scenario.on_rejected == OnRejected::Skip && scenario.poison > 0;
        assert!(!skipped || may_skip, "{id} was skipped");
        // Both, when a crash lies between the gap and its acknowledgement.
        if letters.lock().unwrap().holds(id) {
            // It comes when it is asked for.
        } else if skipped && scenario.ordering == Ordering::Flow {
            order.push(gap);
        } else if arrived && !skipped {
            order.push(id.clone());
        }
    }
    let rewound = scenario.rewind > 0;
    let both = order
        .iter()
        .any(|id| stored.contains(id.replace("-gap", "").as_str()) && id.contains("gap"));
    if !rewound && !both {
        oracle::order_is_kept(&order, &log, scenario.ordering, writers(scenario)).unwrap();
    }
    if faults(scenario) == 0 && !rewound {
        if scenario.poison == 0 {
            assert_eq!(oracle::duplicates(&log), 0, "doubled without a fault: {log:?}");
        }
        let whole = !database.lock().unwrap().lost_sessions;
        for id in letters.lock().unwrap().ids().filter(|_| whole) {
            let times = log.iter().filter(|stored| stored.id == *id).count();
            assert!(times <= 1, "{id} was sent again {times} times: {log:?}");
        }
    }
    if scenario.exactly_once && !rewound {
        assert_eq!(oracle::duplicates(&log), 0, "exactly once is not: {log:?}");
    }
}

async fn without_positions(scenario: &Scenario) -> Seen {
    tokio::task::LocalSet::new().run_until(without_positions_local(scenario)).await
}

fn start_listener(
    scenario: &Scenario,
    world: &SharedListening,
    broker: &SharedBroker,
    letters: &SharedLetters,
) -> Process {
    let world = Arc::clone(world);
    start(scenario, "live", broker, letters, |stop| Arc::new(SimListener { world, stop }))
}

async fn without_positions_local(scenario: &Scenario) -> Seen {
    let mut dice = SmallRng::seed_from_u64(scenario.seed ^ 0xdef);
    let mut seen = Seen::new();
    let (world, broker) = (Listening::shared(scenario), Broker::shared(scenario));
    let letters = Letters::shared(scenario);
    let mut process = start_listener(scenario, &world, &broker, &letters);
    for _ in 0..scenario.steps {
        for _ in 0..dice.random_range(0..12) {
            world.lock().unwrap().announce();
        }
        let mut chance = |thousandths: u32| dice.random_range(0..1_000) < thousandths;
        if chance(scenario.session_loss) {
            world.lock().unwrap().lose_session();
        }
        if chance(scenario.outage) {
            broker.lock().unwrap().outage(Duration::from_millis(900));
        }
        if chance(scenario.kill) {
            process.task.abort();
            let _ = process.task.await;
            let delivered = delivered(&broker);
            world.lock().unwrap().kill(&delivered);
            *seen.entry(Situation::Killed).or_default() += 1;
            process = start_listener(scenario, &world, &broker, &letters);
        }
        sleep(Duration::from_millis(dice.random_range(0..80))).await;
    }
    note_halt(std::slice::from_ref(&process), &mut seen);
    broker.lock().unwrap().calm = true;
    sleep(Duration::from_millis(200)).await;
    let halted = process.status.borrow().state == FlowState::Halted;
    if halted {
        sleep(Duration::from_secs(31)).await;
    }
    letters.lock().unwrap().calm = true;
    dead_letters_arrive(&letters, || ()).await;
    process.stop.cancel();
    let end = process.task.await.unwrap();
    assert_eq!(end, FlowEnd { dropped: 0, drained: true }, "the broker is calm: all is delivered");
    check_listening(scenario, &world, &broker, &letters);
    collect(&mut seen, &world.lock().unwrap().seen);
    collect(&mut seen, &broker.lock().unwrap().seen);
    collect(&mut seen, &letters.lock().unwrap().seen);
    seen
}

fn delivered(broker: &SharedBroker) -> BTreeSet<String> {
    broker.lock().unwrap().log.iter().map(|stored| stored.id.clone()).collect()
}

fn check_listening(
    scenario: &Scenario,
    world: &SharedListening,
    broker: &SharedBroker,
    letters: &SharedLetters,
) {
    let world = world.lock().unwrap();
    let stored = delivered(broker);
    let mut order = Vec::new();
    let mut behind_a_gap = false;
    for id in world.announced.iter().filter(|id| !world.missed.contains(*id)) {
        let is_gap = id.starts_with("s-gap-");
        let joined = is_gap && std::mem::replace(&mut behind_a_gap, is_gap);
        behind_a_gap = is_gap;
        let gap = id.replace("s-", "s-gap-");
        if letters.lock().unwrap().holds(id) {
            let asked_for = letters.lock().unwrap().is_asked_for(id);
            assert!(stored.contains(id) || !asked_for, "{id} was kept, asked for, and is lost");
        } else if stored.contains(id) {
            order.push(id.clone());
        } else if stored.contains(&gap) {
            assert!(world.rejected.contains(id), "{id} was skipped without being poison");
            assert_eq!(scenario.on_rejected, OnRejected::Skip);
            order.push(gap);
        } else {
            assert!(joined, "{id} was heard and is lost");
        }
    }
    let log = broker.lock().unwrap().log.clone();
    if scenario.ordering == Ordering::Flow {
        oracle::order_is_kept(&order, &log, Ordering::Flow, writers(scenario)).unwrap();
    } else {
        let messages: Vec<_> = log.into_iter().filter(|stored| !stored.gap).collect();
        oracle::order_is_kept(&order, &messages, Ordering::Key, writers(scenario)).unwrap();
    }
}

/// A killed process may have been in the middle of a replay, and one that lost its session or its
/// broker too. A hand-over leaves nothing on the wire.
fn writers(scenario: &Scenario) -> usize {
    match faults(scenario) + scenario.rewind + scenario.poison {
        0 => 1,
        _ => scenario.processes + usize::from(scenario.kill > 0),
    }
}

fn faults(scenario: &Scenario) -> u32 {
    scenario.publish_fault + scenario.outage + scenario.session_loss + scenario.kill
}

fn collect(seen: &mut Seen, situations: &[Situation]) {
    for situation in situations {
        *seen.entry(*situation).or_default() += 1;
    }
}
