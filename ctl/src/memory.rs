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

/// Gives back what only the start has needed; call it when the daemon serves.
///
/// Of the program's own file the kernel has mapped in whatever the start has run through, configuration and keys above all:
/// several times what a daemon at rest runs. What is called again comes back from the page cache, 64 KiB at a time.
pub(crate) fn forget_the_start() {
    #[cfg(target_os = "linux")]
    // SAFETY: the callback is called during this call only, with what the linker knows of the program.
    unsafe {
        nix::libc::dl_iterate_phdr(Some(let_go_of_code), std::ptr::null_mut());
    }
    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    // SAFETY: touches free memory of the allocator alone, under its own locks.
    unsafe {
        nix::libc::malloc_trim(0);
    }
}

/// Unmaps what is read or run of the program's file, until it is touched again.
#[cfg(target_os = "linux")]
unsafe extern "C" fn let_go_of_code(
    object: *mut nix::libc::dl_phdr_info,
    _size: usize,
    _data: *mut std::ffi::c_void,
) -> i32 {
    use nix::libc::{_SC_PAGESIZE, MADV_DONTNEED, PF_W, PT_LOAD, c_void, madvise, sysconf};

    // SAFETY: the linker passes a whole description of one object, with as many headers as it says.
    let (base, headers) = unsafe {
        ((*object).dlpi_addr, std::slice::from_raw_parts((*object).dlpi_phdr, (*object).dlpi_phnum.into()))
    };
    // SAFETY: the call takes a number.
    let Ok(page @ 1..) = u64::try_from(unsafe { sysconf(_SC_PAGESIZE) }) else { return 1 };
    // A segment that cannot be written holds the file's bytes and nothing else: relocations are in one that can.
    for segment in headers.iter().filter(|header| header.p_type == PT_LOAD && header.p_flags & PF_W == 0) {
        let from = (base + segment.p_vaddr) / page * page;
        let length = base + segment.p_vaddr + segment.p_memsz - from;
        // SAFETY: nothing is lost but the mapping of pages that are equal to the file's. An error changes nothing.
        unsafe { madvise(from as *mut c_void, length as usize, MADV_DONTNEED) };
    }
    1 // the program is the first; libraries are shared with others
}
