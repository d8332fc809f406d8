//! Timers that signal one thread.
//!
//! A process-wide timer (`setitimer`) reaches any thread that does not block the signal, the
//! test runner's own among them: then two handlers number and record side by side, and no
//! order can be expected of them.

/// A timer that signals the thread that made it, and no other one, until it is dropped.
#[derive(Debug)]
pub struct ThreadTimer(libc::timer_t);

impl ThreadTimer {
    /// Signals the calling thread every so many nanoseconds.
    ///
    /// # Panics
    /// If the system has no timer.
    #[must_use]
    pub fn start(signal: libc::c_int, every_ns: i64) -> Self {
        // SAFETY: plain system calls on values of this frame.
        unsafe {
            let mut event: libc::sigevent = std::mem::zeroed();
            event.sigev_notify = libc::SIGEV_THREAD_ID;
            event.sigev_signo = signal;
            event.sigev_notify_thread_id = libc::gettid();
            let mut timer = std::mem::zeroed();
            let made = libc::timer_create(libc::CLOCK_MONOTONIC, &raw mut event, &raw mut timer);
            assert_eq!(made, 0, "{}", std::io::Error::last_os_error());
            let every = libc::timespec { tv_sec: 0, tv_nsec: every_ns };
            let times = libc::itimerspec { it_interval: every, it_value: every };
            assert_eq!(libc::timer_settime(timer, 0, &raw const times, std::ptr::null_mut()), 0);
            Self(timer)
        }
    }
}

impl Drop for ThreadTimer {
    fn drop(&mut self) {
        // SAFETY: the timer is this value's own.
        unsafe { libc::timer_delete(self.0) };
    }
}

/// Has `handler` called for `signal`. No other signal is masked while it runs: handlers
/// interrupt each other.
///
/// # Safety
/// The handler does nothing that is not async-signal-safe.
pub unsafe fn handle(signal: libc::c_int, handler: extern "C" fn(libc::c_int)) {
    // SAFETY: a plain system call; what the handler does is the caller's promise.
    unsafe {
        let mut action: libc::sigaction = std::mem::zeroed();
        action.sa_sigaction = handler as *const () as usize;
        action.sa_flags = libc::SA_RESTART;
        libc::sigaction(signal, &raw const action, std::ptr::null_mut());
    }
}
