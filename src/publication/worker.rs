//! The one thread on which all work of the publisher is done.
//!
//! An allocator keeps what a thread has freed for the same thread. A walk takes memory for each entry, and walks on ever
//! other threads of a pool would in the end keep that much for each of them.

use std::sync::mpsc;
use std::thread;

use tokio::sync::oneshot;

type Job = Box<dyn FnOnce() + Send>;

/// A thread that may wait for disks. It ends when this is dropped, after the work it was given.
#[derive(Debug)]
pub(super) struct Worker {
    jobs: mpsc::Sender<Job>,
}

impl Worker {
    /// Starts the thread.
    pub(super) fn new() -> Self {
        let (jobs, given) = mpsc::channel::<Job>();
        let thread = thread::Builder::new().name("builds".into());
        thread
            .spawn(move || given.into_iter().for_each(|job| job()))
            .expect("a system that starts a program has a thread for it");
        Self { jobs }
    }

    /// Has something done, and waits for it; `None` if it panicked, or something before it did.
    ///
    /// Whoever stops waiting does not stop the work.
    pub(super) async fn run<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Option<T> {
        let (sender, result) = oneshot::channel();
        let job: Job = Box::new(move || drop(sender.send(work())));
        self.jobs.send(job).ok()?;
        result.await.ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn all_work_is_done_on_one_thread_in_its_order() {
        let worker = Worker::new();
        let first = worker.run(|| thread::current().id()).await;
        for _ in 0..10 {
            assert_eq!(worker.run(|| thread::current().id()).await, first);
        }
        assert_ne!(first, Some(thread::current().id()));
    }

    #[tokio::test]
    async fn who_panics_gives_nothing_and_nothing_comes_after() {
        let worker = Worker::new();
        assert_eq!(worker.run(|| 1).await, Some(1));
        assert_eq!(worker.run::<()>(|| panic!("on purpose")).await, None);
        assert_eq!(worker.run(|| 2).await, None);
    }
}
