//! Lines on their way to standard error, which may take its time.
//!
//! Whoever logs leaves the line in a buffer of bounded size, and goes on; a thread of its own writes. When whatever reads
//! standard error has stopped doing so, the buffer becomes full, and lines are dropped and counted until there is room. A
//! line is written whole or not at all, and the order stays.

use std::io::{self, Write};
use std::mem;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// How many bytes wait at most: several hundred lines, and besides them as many that are being written.
const CAPACITY: usize = 256 << 10;

/// How long a line waits for others to be written with it: a person does not notice, and a server that logs thousands of
/// lines a second wakes the thread fifty times instead of thousands.
const GATHER: Duration = Duration::from_millis(20);

/// A buffer of lines.
#[derive(Debug, Default)]
pub(super) struct Queue {
    state: Mutex<State>,
    changed: Condvar,
    dropped: AtomicU64,
}

#[derive(Debug, Default)]
struct State {
    lines: Vec<u8>,
    is_closed: bool,
    /// Whether nothing will be written any more.
    is_done: bool,
}

impl Queue {
    /// How many lines were dropped so far.
    pub(super) fn dropped(&self) -> u64 {
        self.dropped.load(Ordering::Relaxed)
    }

    /// Writes until the queue is closed and empty. `tell` is called with the number of lines that were dropped, once lines
    /// get through again.
    pub(super) fn drain(&self, mut output: impl Write, tell: impl Fn(u64)) {
        let (mut taken, mut told) = (Vec::new(), 0);
        while self.take(&mut taken) {
            if output.write_all(&taken).is_err() {
                // The last one ends with a line feed, too.
                let lines = taken.split(|&byte| byte == b'\n').count() - 1;
                self.dropped.fetch_add(lines as u64, Ordering::Relaxed);
                // To tell of it is a line too, and would be the next one that is dropped.
                continue;
            }
            let dropped = self.dropped();
            if dropped > told {
                tell(dropped - told);
                told = dropped;
            }
        }
        self.state().is_done = true;
        self.changed.notify_all();
    }

    /// Waits for lines, and takes all there are; `false` when none will come.
    fn take(&self, taken: &mut Vec<u8>) -> bool {
        taken.clear();
        let waiting = |state: &mut State| state.lines.is_empty() && !state.is_closed;
        let state = self.changed.wait_while(self.state(), waiting);
        let state = state.unwrap_or_else(PoisonError::into_inner);
        let gathering = |state: &mut State| !state.is_closed && state.lines.len() < CAPACITY / 2;
        let gathered = self.changed.wait_timeout_while(state, GATHER, gathering);
        let (mut state, _) = gathered.unwrap_or_else(PoisonError::into_inner);
        mem::swap(taken, &mut state.lines);
        !taken.is_empty()
    }

    /// Takes no more lines, and waits until those that it has are written, but no longer than this. Whether they are.
    pub(super) fn close(&self, patience: Duration) -> bool {
        let mut state = self.state();
        state.is_closed = true;
        self.changed.notify_all();
        let writing = |state: &mut State| !state.is_done;
        let waited = self.changed.wait_timeout_while(state, patience, writing);
        let (state, _) = waited.unwrap_or_else(PoisonError::into_inner);
        state.is_done
    }

    /// A thread that panicked while it held the lock has left a buffer as good as any.
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Takes what is written at once for a line. Never fails and never waits.
impl Write for &Queue {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        let mut state = self.state();
        if state.is_closed || state.lines.len() + line.len() > CAPACITY {
            self.dropped.fetch_add(1, Ordering::Relaxed);
        } else {
            let before = state.lines.len();
            state.lines.extend_from_slice(line);
            if before == 0 || before < CAPACITY / 2 && state.lines.len() >= CAPACITY / 2 {
                self.changed.notify_all();
            }
        }
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::mpsc::{Receiver, Sender, channel};
    use std::thread;

    use super::*;

    const PATIENCE: Duration = Duration::from_mins(1);

    /// Hands over what is written, and goes on when it is told so.
    struct Reader {
        written: Sender<Vec<u8>>,
        go_on: Receiver<()>,
    }

    impl Write for Reader {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.written.send(bytes.into()).map_err(io::Error::other)?;
            self.go_on.recv().map_err(io::Error::other)?;
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    fn log(queue: &Queue, line: &str) {
        let mut writer = queue;
        writer.write_all(line.as_bytes()).unwrap();
    }

    #[test]
    fn what_was_logged_is_written_in_order_before_the_end() {
        let queue = Queue::default();
        let mut written = Vec::new();
        thread::scope(|scope| {
            scope.spawn(|| queue.drain(&mut written, |_| {}));
            for line in ["a\n", "b\n", "c\n"] {
                log(&queue, line);
            }
            assert!(queue.close(PATIENCE));
        });
        log(&queue, "too late\n");
        assert_eq!(written, b"a\nb\nc\n");
        assert_eq!(queue.dropped(), 1);
    }

    #[test]
    fn lines_are_dropped_while_nobody_reads_and_that_is_told_afterwards() {
        let queue = Arc::new(Queue::default());
        let ((written, writes), (go_on, goes_on)) = (channel(), channel());
        let reader = Reader {
            written,
            go_on: goes_on,
        };
        let (tell, told) = channel();
        let draining = Arc::clone(&queue);
        let thread =
            thread::spawn(move || draining.drain(reader, |lines| tell.send(lines).unwrap()));
        log(&queue, "first\n");
        assert_eq!(writes.recv().unwrap(), b"first\n");
        let line = format!("{}\n", "x".repeat(1023));
        for _ in 0..CAPACITY / 1024 + 7 {
            log(&queue, &line);
        }
        assert_eq!(queue.dropped(), 7);
        assert!(!queue.close(Duration::ZERO));
        go_on.send(()).unwrap();
        assert_eq!(writes.recv().unwrap().len(), CAPACITY);
        go_on.send(()).unwrap();
        thread.join().unwrap();
        assert_eq!(told.iter().collect::<Vec<_>>(), [7]);
        assert!(queue.close(Duration::ZERO));
    }

    #[test]
    fn lines_that_cannot_be_written_count_as_dropped() {
        let queue = Queue::default();
        log(&queue, "a\n");
        log(&queue, "b\n");
        queue.close(Duration::ZERO);
        queue.drain([].as_mut_slice(), |_| {});
        assert_eq!(queue.dropped(), 2);
    }

    /// Fails so many times, and then takes everything.
    struct Full {
        failures: u32,
        written: Sender<Vec<u8>>,
    }

    impl Write for Full {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            if let Some(left) = self.failures.checked_sub(1) {
                self.failures = left;
                self.written.send(Vec::new()).map_err(io::Error::other)?;
                return Err(io::ErrorKind::StorageFull.into());
            }
            self.written.send(bytes.into()).map_err(io::Error::other)?;
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn that_lines_cannot_be_written_is_not_told_before_they_can() {
        let queue = Arc::new(Queue::default());
        let (written, writes) = channel();
        let (draining, telling) = (Arc::clone(&queue), Arc::clone(&queue));
        let output = Full {
            failures: 2,
            written,
        };
        let tell = move |lines| log(&telling, &format!("told of {lines}\n"));
        let thread = thread::spawn(move || draining.drain(output, tell));
        for (line, expected) in [("a\n", ""), ("b\n", ""), ("c\n", "c\n")] {
            log(&queue, line);
            assert_eq!(writes.recv().unwrap(), expected.as_bytes());
        }
        assert_eq!(writes.recv().unwrap(), b"told of 2\n");
        assert!(queue.close(PATIENCE));
        thread.join().unwrap();
        assert_eq!(queue.dropped(), 2);
    }
}
