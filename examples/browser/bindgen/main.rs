//! `bindgen FOLDER WASM..`: what `wasm-bindgen --target web` does, for each.

use std::env;
use std::process::ExitCode;

use wasm_bindgen_cli_support::Bindgen;

fn main() -> ExitCode {
    let arguments: Vec<String> = env::args().skip(1).collect();
    let [folder, programs @ ..] = arguments.as_slice() else {
        eprintln!("bindgen FOLDER WASM..");
        return ExitCode::FAILURE;
    };
    for wasm in programs {
        let mut bindgen = Bindgen::new();
        bindgen
            .input_path(wasm)
            .typescript(false)
            .omit_default_module_path(false)
            .remove_name_section(true)
            .remove_producers_section(true);
        if let Err(error) = bindgen.web(true).and_then(|bindgen| bindgen.generate(folder)) {
            eprintln!("bindgen: {error:#}");
            return ExitCode::FAILURE;
        }
    }
    ExitCode::SUCCESS
}
