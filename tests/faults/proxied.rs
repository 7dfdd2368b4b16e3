//! Seeded runs behind a proxy that spoils what it can.

use std::collections::{BTreeMap, HashSet};
use std::env;
use std::fmt::Write;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use code_server::config::fetch::{FetchConfig, Layout};
use code_server::exit::{Exit, sentence};
use code_server::fetch::{FetchError, Summary};
use fastrand::Rng;
use tokio::runtime;

use crate::client::{config, fetch};
use crate::fault::{Asked, Fault, all};
use crate::origin::Origin;
use crate::proxy::{Origins, Proxy, Temper};
use crate::scratch::scratch;
use crate::target::{Holding, Target};
use crate::trees::Trees;
use crate::{LAYOUTS, alone};

/// How many runs are made, unless the environment says otherwise.
const RUNS: u64 = 1000;
/// So many at once: most of the time each of them waits.
const LANES: usize = 16;
/// Many times what an answer takes on this machine, and short enough to wait for it a thousand times.
const STALL: Duration = Duration::from_millis(300);

/// What the seed says about a run.
#[derive(Debug)]
struct Plan {
    layout: Layout,
    /// Whether the target holds the old tree; else it is not there.
    begins_with_old: bool,
    /// The new tree that is waited for.
    pinned: Option<usize>,
    tempers: Vec<Temper>,
    deadline: Duration,
}

impl Plan {
    fn of(seed: u64) -> Self {
        let mut random = Rng::with_seed(seed);
        let sources = if random.u8(..4) == 0 { 2 } else { 1 };
        let mut temper = |source: u64| Temper {
            seed: seed << 1 | source,
            current: random.usize(..2),
            swapping: if random.bool() { 30 } else { 0 },
            spoilt: random.u64(..6),
        };
        let tempers = (0..sources).map(&mut temper).collect();
        let millis = match random.u8(..10) {
            0 => random.u64(1..400),
            _ => 10_000,
        };
        let pinned = (random.u8(..8) == 0).then(|| random.usize(..2));
        Self {
            layout: LAYOUTS[random.usize(..LAYOUTS.len())],
            begins_with_old: random.u8(..3) > 0,
            pinned,
            tempers,
            deadline: Duration::from_millis(millis.min(if pinned.is_some() {
                1500
            } else {
                10_000
            })),
        }
    }
}

/// How a run ended, and what was done to it.
struct Ran {
    end: String,
    succeeded: bool,
    faults: Vec<(Asked, usize, Fault)>,
}

async fn make(seed: u64, origins: &Origins<'_>, old: &Origin) -> Result<Ran, String> {
    let plan = Plan::of(seed);
    let place = scratch();
    let target = Target {
        path: place.path().join("target"),
        layout: plan.layout,
        trees: origins.trees,
    };
    let before = if plan.begins_with_old {
        let config = config(&[old.address], &target.path, plan.layout);
        fetch(&config).await.unwrap();
        Holding::Tree("old")
    } else {
        Holding::Nothing
    };
    assert_eq!(target.holding(), before);

    let mut proxies = Vec::new();
    for temper in &plan.tempers {
        proxies.push(Proxy::start(origins, *temper).await);
    }
    let sources: Vec<_> = proxies.iter().map(|proxy| proxy.address).collect();
    let config = FetchConfig {
        revision: plan.pinned.map(|one| origins.trees.new[one].revision),
        deadline: Some(plan.deadline),
        stall_timeout: STALL,
        ..config(&sources, &target.path, plan.layout)
    };
    let fetched = fetch(&config).await;
    let faults: Vec<_> = proxies.iter().flat_map(Proxy::faults).collect();
    let end = judge(&plan, &fetched, &faults, &target, &before);
    end.map(|end| Ran {
        end,
        succeeded: fetched.is_ok(),
        faults: faults.clone(),
    })
    .map_err(|wrong| {
        let told = fetched.map_err(|error| sentence(&error));
        let faults: String = faults.iter().fold(String::new(), |mut text, fault| {
            writeln!(text, "  {fault:?}").unwrap();
            text
        });
        format!("FAULTS_SEED={seed}: {wrong}\n{told:?}\n{plan:?}\n{faults}")
    })
}

/// How it ended, in a few words; an error where it may not end like that.
fn judge(
    plan: &Plan,
    fetched: &Result<Summary, FetchError>,
    faults: &[(Asked, usize, Fault)],
    target: &Target<'_>,
    before: &Holding,
) -> Result<String, String> {
    let left = target.left_over();
    if !left.is_empty() {
        return Err(format!("{left:?} is left over"));
    }
    let holding = target.holding();
    match fetched {
        Ok(summary) => {
            let mut trees = target.trees.all();
            let Some(tree) = trees.find(|tree| tree.revision == summary.revision) else {
                return Err("it fetched a tree that nobody has".into());
            };
            if holding != Holding::Tree(tree.name) {
                return Err(format!(
                    "it fetched {}, and there is {holding:?}",
                    tree.name
                ));
            }
            let was_served = |fault: &(Asked, usize, Fault)| fault.2 == Fault::StaleDescriptor;
            if tree.name == "old" && !faults.iter().any(was_served) {
                return Err("it took the old tree for what is served".into());
            }
            if plan
                .pinned
                .is_some_and(|one| target.trees.new[one].name != tree.name)
            {
                return Err(format!("it took {} for what was asked for", tree.name));
            }
            Ok(format!("{before:?} → {}", tree.name))
        }
        Err(error) => {
            if holding != *before {
                return Err(format!("it failed, and there is {holding:?}"));
            }
            if !matches!(error.exit(), Exit::Data | Exit::Unavailable) {
                return Err(format!("it ends with {:?}", error.exit()));
            }
            let kind = match error {
                FetchError::Deadline { .. } => "no time left",
                FetchError::Failed(_) | FetchError::Everywhere { .. } => "failed for good",
                FetchError::Damaged { .. } => "damaged",
                _ => return Err("nobody stopped it, and the target was in order".into()),
            };
            Ok(format!("{before:?}, {kind}"))
        }
    }
}

/// Makes runs until there are no seeds left, several at once; gives them, and what went wrong.
fn make_all(
    seeds: std::ops::Range<u64>,
    origins: &Origins<'_>,
    old: &Origin,
) -> (Vec<Ran>, Vec<String>) {
    let next = AtomicU64::new(seeds.start);
    let (ran, wrong) = (Mutex::new(Vec::new()), Mutex::new(Vec::new()));
    thread::scope(|scope| {
        for _ in 0..LANES {
            scope.spawn(|| {
                let mut builder = runtime::Builder::new_current_thread();
                let runtime = builder.enable_all().build().unwrap();
                while wrong.lock().unwrap().len() < 3 {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    if seed >= seeds.end {
                        break;
                    }
                    match runtime.block_on(make(seed, origins, old)) {
                        Ok(one) => ran.lock().unwrap().push(one),
                        Err(one) => wrong.lock().unwrap().push(one),
                    }
                }
            });
        }
    });
    (ran.into_inner().unwrap(), wrong.into_inner().unwrap())
}

fn number(variable: &str) -> Option<u64> {
    env::var(variable).ok().map(|text| text.parse().unwrap())
}

#[test]
fn whatever_happens_on_the_way_the_target_holds_one_whole_tree() {
    let _alone = alone();
    let begun = Instant::now();
    let trees = Trees::make(25, true);
    let origins = Origins {
        servers: [0, 1].map(|one| Origin::of(&trees.new[one].artifact)),
        trees: &trees,
    };
    let old = Origin::of(&trees.old.artifact);
    let one = number("FAULTS_SEED");
    let seeds = one.map_or(0..number("FAULTS_RUNS").unwrap_or(RUNS), |seed| {
        seed..seed + 1
    });
    let (ran, wrong) = make_all(seeds.clone(), &origins, &old);
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));

    let mut ends: BTreeMap<&str, usize> = BTreeMap::new();
    for one in &ran {
        *ends.entry(&one.end).or_default() += 1;
    }
    println!("{} runs in {:?}: {ends:#?}", ran.len(), begun.elapsed());
    if one.is_some() {
        println!("{:#?}", ran[0].faults);
        return;
    }
    let succeeded = ran.iter().filter(|one| one.succeeded).count();
    assert!(succeeded * 10 >= ran.len() * 6, "{succeeded} succeeded");
    let happened: HashSet<Fault> = ran
        .iter()
        .flat_map(|one| one.faults.iter().map(|fault| fault.2))
        .collect();
    let never: Vec<Fault> = all().filter(|fault| !happened.contains(fault)).collect();
    assert!(never.is_empty(), "{never:?} never happened");
    for end in [
        "Nothing → A",
        "Nothing → B",
        "Tree(\"old\") → A",
        "Tree(\"old\") → B",
        "Nothing, no time left",
        "Tree(\"old\"), no time left",
        "Nothing, failed for good",
        "Tree(\"old\"), failed for good",
    ] {
        assert!(ends.contains_key(end), "never: {end}");
    }
}
