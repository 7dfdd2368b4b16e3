//! Work done by several threads, taken back in the order in which it was given.
//!
//! The one who gives the work holds both ends, and so bounds the memory: once [`Ordered::is_full`], it takes a result
//! before it gives the next job. Which thread did what never shows in the results.

use std::collections::VecDeque;
use std::io;
use std::num::NonZeroUsize;
use std::sync::mpsc::{self, Receiver, Sender, SyncSender};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};

/// A queue of jobs with the threads that do them.
///
/// Dropping it waits until the jobs already given are done, and forgets their results.
#[derive(Debug)]
pub struct Ordered<J, R> {
    jobs: Option<Sender<(J, SyncSender<R>)>>,
    results: VecDeque<Receiver<R>>,
    threads: Vec<JoinHandle<()>>,
}

impl<J: Send + 'static, R: Send + 'static> Ordered<J, R> {
    /// Starts the threads. Fails where the system refuses one more.
    pub fn new(
        threads: NonZeroUsize,
        work: impl Fn(J) -> R + Send + Sync + 'static,
    ) -> io::Result<Self> {
        let (jobs, queue) = mpsc::channel();
        let queue = Arc::new(Mutex::new(queue));
        let work = Arc::new(work);
        let threads = (0..threads.get())
            .map(|_| {
                let (queue, work) = (Arc::clone(&queue), Arc::clone(&work));
                thread::Builder::new()
                    .name("worker".into())
                    .spawn(move || work_off(&queue, &*work))
            })
            .collect::<io::Result<_>>()?;
        Ok(Self {
            jobs: Some(jobs),
            results: VecDeque::new(),
            threads,
        })
    }

    /// Whether every thread has a job and one more lies ready: time to take a result.
    #[must_use]
    pub fn is_full(&self) -> bool {
        self.results.len() > self.threads.len()
    }

    /// Gives a job. Never waits: the bound is [`Self::is_full`], and the caller's to keep.
    pub fn give(&mut self, job: J) {
        let (result, receiver) = mpsc::sync_channel(1);
        let jobs = self.jobs.as_ref().expect("taken only by drop");
        jobs.send((job, result))
            .expect("the threads outlive the sender");
        self.results.push_back(receiver);
    }

    /// Waits for the oldest job's result; `None` when every result was taken.
    pub fn take(&mut self) -> Option<R> {
        let receiver = self.results.pop_front()?;
        Some(receiver.recv().expect("a worker thread panicked"))
    }
}

impl<J, R> Drop for Ordered<J, R> {
    fn drop(&mut self) {
        self.results.clear();
        self.jobs = None;
        for thread in self.threads.drain(..) {
            // A panic of a worker has been reported by its own thread already.
            drop(thread.join());
        }
    }
}

/// Does jobs until the sender is gone.
fn work_off<J, R>(queue: &Mutex<Receiver<(J, SyncSender<R>)>>, work: impl Fn(J) -> R) {
    loop {
        let job = queue.lock().unwrap_or_else(PoisonError::into_inner).recv();
        let Ok((job, result)) = job else { return };
        // A receiver that is gone means that the whole queue is: nobody wants the result.
        drop(result.send(work(job)));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn threads(count: usize) -> NonZeroUsize {
        NonZeroUsize::new(count).unwrap()
    }

    #[test]
    fn results_come_in_the_order_of_the_jobs() {
        let mut squares = Ordered::new(threads(3), |n: u64| {
            // Early jobs take longer than late ones.
            (0..(100 - n) * 1000).fold(n * n, |sum, _| std::hint::black_box(sum))
        })
        .unwrap();
        for n in 0..100 {
            squares.give(n);
        }
        let taken: Vec<_> = std::iter::from_fn(|| squares.take()).collect();
        assert_eq!(taken, (0..100).map(|n| n * n).collect::<Vec<_>>());
    }

    #[test]
    fn it_is_full_when_each_thread_has_work_and_one_job_waits() {
        let mut echo = Ordered::new(threads(2), |n: u8| n).unwrap();
        for n in 0..3 {
            assert!(!echo.is_full());
            echo.give(n);
        }
        assert!(echo.is_full());
        assert_eq!(echo.take(), Some(0));
        assert!(!echo.is_full());
    }

    #[test]
    fn dropping_it_early_ends_the_threads() {
        let mut echo = Ordered::new(threads(2), |n: u32| n).unwrap();
        (0..1000).for_each(|n| echo.give(n));
        drop(echo);
    }
}
