//! Both sides of `kernels/abi.h`: its structs and constants in Rust, and their layout as assertions for nvcc and g++.

use std::{env, fs, path::PathBuf};

use bindgen::{
    Builder, Formatter, MacroTypeVariation,
    callbacks::{DeriveInfo, IntKind, ParseCallbacks},
};

const HEADER: &str = "kernels/abi.h";
const RUST: &str = "src/cuda/abi/bindings.rs";
const LAYOUT: &str = "kernels/abi_layout.h";
const NOTE: &str = "// Written by scripts/generate-abi from kernels/abi.h; do not edit.\n\n";

/// Writes `src/cuda/abi/bindings.rs` and `kernels/abi_layout.h`, or both into the folder that `GATEFOLD_ABI_OUT` names.
pub fn write() -> Result<(), String> {
    println!("cargo:rerun-if-env-changed=GATEFOLD_ABI_OUT");
    for path in [HEADER, RUST, LAYOUT] {
        println!("cargo:rerun-if-changed={path}");
    }
    let [rust, layout] = match env::var_os("GATEFOLD_ABI_OUT").filter(|folder| !folder.is_empty()) {
        Some(folder) => ["bindings.rs", "abi_layout.h"].map(|name| PathBuf::from(&folder).join(name)),
        None => [RUST, LAYOUT].map(PathBuf::from),
    };
    let bindings = bindings()?;
    let header = layout_header(&bindings)?;
    for (path, text) in [(rust, bindings), (layout, header)] {
        if fs::read_to_string(&path).is_ok_and(|old| old == text) {
            continue;
        }
        fs::write(&path, text).map_err(|e| format!("{}: {e}", path.display()))?;
    }
    Ok(())
}

#[derive(Debug)]
struct Choices;

impl ParseCallbacks for Choices {
    fn int_macro(&self, name: &str, _: i64) -> Option<IntKind> {
        name.starts_with("MAX_").then_some(IntKind::Custom { name: "usize", is_signed: false })
    }

    fn add_derives(&self, _: &DeriveInfo<'_>) -> Vec<String> {
        ["bytemuck::Pod", "bytemuck::Zeroable"].map(String::from).to_vec()
    }
}

fn bindings() -> Result<String, String> {
    let config = env::current_dir().map_err(|e| format!("the current folder: {e}"))?.join("rustfmt.toml");
    let builder = Builder::default()
        .header(HEADER)
        .clang_args(["-x", "c", "-DGATEFOLD_BINDGEN"])
        .allowlist_file(".*kernels/abi\\.h")
        .default_macro_constant_type(MacroTypeVariation::Unsigned)
        .generate_comments(false)
        .use_core()
        .disable_header_comment()
        .parse_callbacks(Box::new(Choices))
        .formatter(Formatter::Rustfmt)
        .rustfmt_configuration_file(Some(config));
    let bindings = builder.generate().map_err(|e| format!("{HEADER}: {e}"))?;
    Ok(format!("{NOTE}{}", bindings.to_string().trim_start().replace("bytemuck :: ", "bytemuck::")))
}

/// One `static_assert` a struct, from the layout that bindgen asserts in Rust.
fn layout_header(bindings: &str) -> Result<String, String> {
    let mut structs: Vec<(&str, Vec<String>)> = Vec::new();
    for (start, what) in [("[\"Size of ", "size_of::<"), ("[\"Offset of field: ", "offset_of!(")] {
        for test in bindings.split(start).skip(1) {
            let strange =
                || format!("{HEADER}: bindgen's layout test reads otherwise than expected: {start}{test:.60}");
            let (subject, rest) = test.split_once("\"]").ok_or_else(strange)?;
            let (expression, _) = rest.split_once("usize]").ok_or_else(strange)?;
            let (called, number) = expression.rsplit_once('-').ok_or_else(strange)?;
            let number: usize = number.trim().parse().map_err(|_| strange())?;
            if !called.contains(what) {
                return Err(strange());
            }
            let (name, term) = match subject.split_once("::") {
                None => (subject, format!("sizeof({subject}) == {number}")),
                Some((name, field)) => (name, format!("offsetof({name}, {field}) == {number}")),
            };
            match structs.iter_mut().find(|(known, _)| *known == name) {
                Some((_, terms)) => terms.push(term),
                None => structs.push((name, vec![term])),
            }
        }
    }
    if structs.is_empty() {
        return Err(format!("{HEADER}: bindgen found no structs in it"));
    }
    let mut text = format!("{NOTE}#pragma once\n\n#include <stddef.h>\n\n");
    for (name, terms) in structs {
        text += &format!("static_assert({},\n    \"{name} is laid out otherwise in Rust\");\n", terms.join(" && "));
    }
    Ok(text)
}
