//! How a daemon that runs for months gives memory back that it needs no more.

/// Keeps the allocator from holding on to memory; call it before there is a second thread.
///
/// Blocks of 128 KiB and more, and as much free memory at the end of the heap, go back to the kernel. glibc would raise that
/// size with every larger block that is freed, up to 32 MiB: after a burst of work the buffers of all its streams would
/// stay behind as holes in the heap, many times what the daemon needs at rest.
pub(crate) fn give_back() {
    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    // SAFETY: sets a number of the allocator's, which has no other thread yet.
    unsafe {
        nix::libc::mallopt(nix::libc::M_TRIM_THRESHOLD, 128 << 10);
    }
}
