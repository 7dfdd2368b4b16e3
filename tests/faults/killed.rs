//! The program is killed at random moments. Its target holds a whole tree then, or does not say that it holds one; and the
//! next run that is let finish leaves the tree that is served and nothing else.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::Mutex;
use std::thread;
use std::time::{Duration, Instant};

use code_server::config::fetch::Layout;
use fastrand::Rng;
use tokio::runtime;

use crate::client::{config, fetch};
use crate::origin::Origin;
use crate::scratch::scratch;
use crate::target::{Holding, Target};
use crate::trees::Trees;
use crate::{LAYOUTS, alone};

/// How often it is killed in each layout, all lanes together.
const KILLS: u32 = 200;
/// Targets that are worked on at once.
const LANES: u32 = 2;

/// When to kill.
#[derive(Clone, Copy, Debug)]
enum Moment {
    /// So long after the start.
    AfterStart(Duration),
    /// So long after the target began to change.
    AfterReady(Duration),
}

/// What a kill left.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Phase {
    NothingStaged,
    Staging,
    Changing,
    Done,
}

/// How long a run takes that nobody kills.
struct Usual {
    whole: Duration,
    change: Duration,
}

/// A target, and the servers of the trees that it may be given.
struct Lane<'a> {
    target: Target<'a>,
    sources: [SocketAddr; 2],
}

impl Lane<'_> {
    fn ready(&self) -> PathBuf {
        self.target.path.join(".code-fetch/staging/ready")
    }

    fn start(&self, one: usize) -> Child {
        let layout = match self.target.layout {
            Layout::Direct => "direct",
            Layout::Versioned => "versioned",
        };
        Command::new(env!("CARGO_BIN_EXE_fetch-init"))
            .env_clear()
            .arg(format!("http://{}", self.sources[one]))
            .arg(&self.target.path)
            .args(["--layout", layout, "--progress=off", "--workers=2"])
            .arg("--termination-log")
            .arg(self.target.path.with_extension("termination-log"))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap()
    }

    /// Waits until the target begins to change, or the program has ended.
    fn wait_until_ready(&self, child: &mut Child) {
        let ready = self.ready();
        while !ready.exists() && child.try_wait().unwrap().is_none() {
            pause(Duration::from_micros(100));
        }
    }

    /// Lets a run finish.
    fn complete(&self, one: usize) -> Usual {
        let begun = Instant::now();
        let mut child = self.start(one);
        self.wait_until_ready(&mut child);
        let ready = Instant::now();
        assert!(child.wait().unwrap().success());
        Usual {
            whole: begun.elapsed(),
            change: ready.elapsed(),
        }
    }

    fn kill(&self, one: usize, moment: Moment) {
        let mut child = self.start(one);
        match moment {
            Moment::AfterStart(delay) => pause(delay),
            Moment::AfterReady(delay) => {
                self.wait_until_ready(&mut child);
                pause(delay);
            }
        }
        child.kill().unwrap();
        child.wait().unwrap();
    }

    /// Fetches in this process, undisturbed.
    fn fetch(&self, source: SocketAddr) {
        let config = config(&[source], &self.target.path, self.target.layout);
        let mut builder = runtime::Builder::new_current_thread();
        let runtime = builder.enable_all().build().unwrap();
        runtime.block_on(fetch(&config)).unwrap();
    }

    /// What a kill left, where the old tree or the new one is what may be there.
    #[track_caller]
    fn look(&self, possible: &[&'static str], new: &'static str) -> Phase {
        let holding = self.target.holding();
        let is_changing = self.ready().exists();
        match &holding {
            Holding::Tree(name) => assert!(possible.contains(name), "{holding:?}"),
            Holding::Unsaid => {
                assert!(is_changing && self.target.layout == Layout::Direct);
            }
            _ => panic!("{holding:?}"),
        }
        if is_changing {
            Phase::Changing
        } else if self.target.path.join(".code-fetch/staging").exists() {
            Phase::Staging
        } else if holding == Holding::Tree(new) {
            Phase::Done
        } else {
            Phase::NothingStaged
        }
    }

    /// Kills so many runs, each of which has something to change.
    fn run(&self, kills: u32, old: SocketAddr, random: &mut Rng) -> BTreeMap<Phase, usize> {
        self.fetch(old);
        self.complete(1);
        let mut usual = self.complete(0);
        let names = [0, 1].map(|one: usize| self.target.trees.new[one].name);
        let mut phases = BTreeMap::new();
        let mut current = 0;
        let mut possible = vec![names[current]];
        for index in 0..kills {
            let part = (f64::from(index) + random.f64()) / f64::from(kills) * 1.1;
            let moment = match index % 10 {
                // Otherwise it would hardly ever be so early.
                1 => Moment::AfterStart(usual.whole.mul_f64(random.f64() / 20.0)),
                0 | 4 | 7 => Moment::AfterReady(usual.change.mul_f64(part)),
                _ => Moment::AfterStart(usual.whole.mul_f64(part)),
            };
            let next = 1 - current;
            self.kill(next, moment);
            possible.push(names[next]);
            let phase = self.look(&possible, names[next]);
            *phases.entry(phase).or_default() += 1;
            current = next;
            if index + 1 < kills && random.u8(..4) == 0 {
                // The next one is killed over what this one left.
                continue;
            }
            if random.bool() {
                // What was being installed is not wanted any more.
                current = 1 - current;
            }
            let completed = self.complete(current);
            if current == next && phase < Phase::Changing {
                usual = completed;
            }
            let context = format!("after {moment:?}, which left {phase:?}");
            assert_eq!(
                self.target.holding(),
                Holding::Tree(names[current]),
                "{context}"
            );
            let left = self.target.left_over();
            assert!(left.is_empty(), "{left:?} {context}");
            possible = vec![names[current]];
        }
        phases
    }
}

#[expect(
    clippy::disallowed_methods,
    reason = "the moment of a kill is left to chance, and a file system tells nobody when it is due"
)]
fn pause(duration: Duration) {
    thread::sleep(duration);
}

#[test]
fn who_is_killed_at_any_moment_leaves_a_whole_tree_or_what_the_next_one_makes_whole() {
    let _alone = alone();
    let begun = Instant::now();
    let trees = Trees::make(120, true);
    let old = Origin::of(&trees.old.artifact);
    let origins = [0, 1].map(|one: usize| Origin::of(&trees.new[one].artifact));
    let sources = [0, 1].map(|one: usize| origins[one].address);
    let kills = KILLS / LANES;
    for &layout in LAYOUTS {
        let phases = Mutex::new(BTreeMap::<Phase, usize>::new());
        thread::scope(|scope| {
            for lane in 0..LANES {
                let (phases, trees, old) = (&phases, &trees, old.address);
                scope.spawn(move || {
                    let place = scratch();
                    let target = Target {
                        path: place.path().join("target"),
                        layout,
                        trees,
                    };
                    let mut random = Rng::with_seed(lane.into());
                    let found = Lane { target, sources }.run(kills, old, &mut random);
                    let mut phases = phases.lock().unwrap();
                    for (phase, count) in found {
                        *phases.entry(phase).or_default() += count;
                    }
                });
            }
        });
        let phases = phases.into_inner().unwrap();
        println!("{layout:?}, {:?}: {phases:?}", begun.elapsed());
        let expected = [
            Phase::NothingStaged,
            Phase::Staging,
            Phase::Changing,
            Phase::Done,
        ];
        for phase in expected {
            assert!(phases.contains_key(&phase), "never: {phase:?}");
        }
    }
}
