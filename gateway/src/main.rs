//! The program `probegate`.

use std::process::ExitCode;

// The allocator of the C library costs the path of a request a tenth more.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    probegate::cli::main()
}
