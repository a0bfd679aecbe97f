//! `src/crypto.rs` takes `checks/leaks/mark.rs` then.

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    println!("cargo::rustc-check-cfg=cfg(subrosa_leaks)");
    println!("cargo::rustc-cfg=subrosa_leaks");
}
