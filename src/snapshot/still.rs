//! Whether a file held still while it was read, told by its stamps.
//!
//! A change that comes within one tick of the clock behind another one may leave the stamp as it was. So a reading begins
//! only when the last change lies a whole tick back: every later one then has a later time, and the stamp shows it, at the
//! end of the reading and for ever after.

use std::fs::File;
use std::io;
use std::time::Duration;

use rustix::time::ClockId;

use crate::entry::{EntryKind, Stamp, Timestamp};
use crate::root::{Kind, Status, status_of};

/// Two changes closer together than this may carry the same time: the kernel takes file times from a clock that ticks at
/// least every 10 ms, doubled for safety.
const TICK: Duration = Duration::from_millis(20);
/// The same on file systems that keep whole seconds or even pairs of them.
const COARSE_TICK: Duration = Duration::from_secs(2);
/// How often a file is given time to settle before it is taken for one that never does.
const PAUSES: u32 = 5;

/// A file and the clock that its times are taken from.
pub(super) trait Scene {
    fn status(&self) -> io::Result<Status>;
    fn now(&self) -> Timestamp;
    fn sleep(&self, pause: Duration);
}

impl Scene for File {
    fn status(&self) -> io::Result<Status> {
        status_of(self)
    }

    fn now(&self) -> Timestamp {
        let time = rustix::time::clock_gettime(ClockId::RealtimeCoarse);
        Timestamp {
            seconds: time.tv_sec,
            nanoseconds: u32::try_from(time.tv_nsec).unwrap_or(0),
        }
    }

    #[expect(
        clippy::disallowed_methods,
        reason = "two seconds at the most, and on a thread that may wait"
    )]
    fn sleep(&self, pause: Duration) {
        std::thread::sleep(pause);
    }
}

/// A file as it was when its reading began.
#[derive(Debug)]
pub(super) struct Still {
    pub(super) status: Status,
    /// Whether every change from then on must show in the stamp, for as long as this boot lasts.
    proves: bool,
}

impl Still {
    /// Waits until a change from now on could not go unseen; `None` where somebody keeps writing. What is no file is not
    /// waited for.
    pub(super) fn wait(scene: &impl Scene) -> io::Result<Option<Self>> {
        for _ in 0..PAUSES {
            let status = scene.status()?;
            match pause_before_reading(&status.stamp, scene.now()) {
                // The clock that is looked at lags behind the one that ends the sleep by up to half a tick.
                Pause::For(pause) if is_file(&status) => scene.sleep(pause + TICK / 2),
                pause => {
                    let proves = pause == Pause::None;
                    return Ok(Some(Self { status, proves }));
                }
            }
        }
        Ok(None)
    }

    /// The stamp by which what was read can be known again, if it is one to rely on.
    pub(super) fn proof(&self) -> Option<Stamp> {
        self.proves.then_some(self.status.stamp)
    }
}

/// Whether nobody has written to a file since it had this stamp.
pub(super) fn has_still(scene: &impl Scene, stamp: &Stamp) -> io::Result<bool> {
    Ok(scene.status()?.stamp == *stamp)
}

pub(super) fn is_file(status: &Status) -> bool {
    status.kind == Kind::Entry(EntryKind::File)
}

/// What to do before the first byte is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Pause {
    /// A change from now on shows.
    None,
    /// It would after this time.
    For(Duration),
    /// The file's time lies ahead of the clock, which was set back. A change made now gets another time, but one that is
    /// made when the clock has come there may not.
    Pointless,
}

fn pause_before_reading(stamp: &Stamp, now: Timestamp) -> Pause {
    let whole_seconds = stamp.ctime.nanoseconds == 0;
    let tick = if whole_seconds { COARSE_TICK } else { TICK };
    if stamp.ctime.since(now) > tick {
        return Pause::Pointless;
    }
    match tick.checked_sub(now.since(stamp.ctime)) {
        None | Some(Duration::ZERO) => Pause::None,
        Some(pause) => Pause::For(pause),
    }
}

#[cfg(test)]
mod tests {
    use std::cell::{Cell, RefCell};

    use proptest::prelude::*;

    use super::*;

    fn at(nanoseconds: u64) -> Timestamp {
        Timestamp {
            seconds: i64::try_from(nanoseconds / 1_000_000_000).unwrap(),
            nanoseconds: u32::try_from(nanoseconds % 1_000_000_000).unwrap(),
        }
    }

    fn stamp(ctime: Timestamp) -> Stamp {
        Stamp {
            size: 0,
            mtime: ctime,
            ctime,
            inode: 1,
        }
    }

    #[test]
    fn a_file_is_read_only_once_a_further_change_would_show() {
        let check = |(seconds, nanoseconds), pause| {
            let ctime = Timestamp {
                seconds,
                nanoseconds,
            };
            let now = at(100_500_000_000);
            assert_eq!(pause_before_reading(&stamp(ctime), now), pause);
        };
        let wait = |milliseconds| Pause::For(Duration::from_millis(milliseconds));
        check((100, 500_000_000), wait(20));
        check((100, 485_000_000), wait(5));
        check((100, 480_000_000), Pause::None);
        check((7, 1), Pause::None);
        // Whole seconds.
        check((100, 0), wait(1500));
        check((98, 0), Pause::None);
        // Ahead of the clock: a little by the rounding of clocks, or far because it was set back.
        check((100, 500_000_001), wait(20));
        check((200, 1), Pause::Pointless);
    }

    /// A file of which every write has a number, on a file system whose clock only ticks so often. Somebody writes to it at
    /// given times, whatever the reader does.
    struct Simulated {
        /// Of the file system's clock, in nanoseconds.
        tick: u64,
        now: Cell<u64>,
        /// When writes happen, the last one first.
        writes: RefCell<Vec<u64>>,
        content: Cell<usize>,
        ctime: Cell<u64>,
    }

    impl Simulated {
        fn new(tick: u64, gaps: &[u64]) -> Self {
            let start = 1_000_000_000_000;
            let mut writes: Vec<_> = gaps
                .iter()
                .scan(start, |time, gap| {
                    *time += gap;
                    Some(*time)
                })
                .collect();
            writes.reverse();
            Self {
                tick,
                now: Cell::new(start),
                writes: RefCell::new(writes),
                content: Cell::new(0),
                ctime: Cell::new(start),
            }
        }

        fn pass(&self, nanoseconds: u64) {
            self.now.set(self.now.get() + nanoseconds);
            let mut writes = self.writes.borrow_mut();
            while writes.last().is_some_and(|&time| time <= self.now.get()) {
                let time = writes.pop().unwrap();
                self.content.set(self.content.get() + 1);
                self.ctime.set(time - time % self.tick);
            }
        }

        /// Reads the file piece by piece, and gives what each piece was of.
        fn read(&self, pieces: usize, duration: u64) -> Vec<usize> {
            let read = |_| {
                self.pass(duration);
                self.content.get()
            };
            (0..pieces).map(read).collect()
        }
    }

    impl Scene for Simulated {
        fn status(&self) -> io::Result<Status> {
            // A look takes a moment, too.
            self.pass(1000);
            Ok(Status {
                kind: Kind::Entry(EntryKind::File),
                mode: 0o644,
                uid: 0,
                gid: 0,
                device: 0,
                stamp: stamp(at(self.ctime.get())),
            })
        }

        fn now(&self) -> Timestamp {
            at(self.now.get() - self.now.get() % self.tick.min(10_000_000))
        }

        fn sleep(&self, pause: Duration) {
            self.pass(u64::try_from(pause.as_nanos()).unwrap());
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(4000))]

        /// Writes come close together, as a careless tool makes them, on file systems with fine and with whole seconds.
        #[test]
        fn what_held_still_is_no_mixture_and_is_known_again(
            coarse: bool,
            gaps in proptest::collection::vec(0_u64..60_000_000, 0..60),
            pieces in 1_usize..4,
            duration in 0_u64..5_000_000,
        ) {
            let scene = Simulated::new(if coarse { 1_000_000_000 } else { 10_000_000 }, &gaps);
            let mut known = None;
            for _ in 0..10 {
                let Some(still) = Still::wait(&scene).unwrap() else { continue };
                let read = scene.read(pieces, duration);
                if !has_still(&scene, &still.status.stamp).unwrap() {
                    continue;
                }
                prop_assert!(read.iter().all(|content| *content == read[0]), "a mixture: {read:?}");
                if let Some((stamp, content)) = known && stamp == still.status.stamp {
                    prop_assert_eq!(content, read[0], "a stale content is taken for the new one");
                }
                known = still.proof().map(|stamp| (stamp, read[0]));
                scene.pass(duration);
            }
        }
    }

    #[test]
    fn a_file_with_a_time_to_come_is_read_and_not_remembered() {
        let scene = Simulated::new(10_000_000, &[]);
        scene.ctime.set(scene.now.get() + 3_600_000_000_000);
        let still = Still::wait(&scene).unwrap().unwrap();
        assert!(has_still(&scene, &still.status.stamp).unwrap());
        assert_eq!(still.proof(), None);
    }

    #[test]
    fn a_file_that_is_written_without_end_is_not_waited_for() {
        let scene = Simulated::new(10_000_000, &vec![5_000_000; 10_000]);
        assert!(Still::wait(&scene).unwrap().is_none());
    }
}
