//! The definitions in `proto/` against the table of etcd's newest API: every message, field,
//! number, type, label, enum value, method and streaming flag, both ways.

use std::collections::BTreeSet;

use prost::Message;
use prost_types::{
    DescriptorProto, EnumDescriptorProto, FileDescriptorSet,
    field_descriptor_proto::{Label, Type},
};

const DESCRIPTORS: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/etcd.fds"));
const TABLE: &str = include_str!("data/wire.tsv");

/// The columns of the table but for its version and, in the last one, when a thing came to be.
type Row = [String; 7];

#[test]
fn the_compiled_definitions_say_exactly_what_the_table_says() {
    let compiled = compiled();
    let table = table();
    let missing: Vec<_> = table.difference(&compiled).collect();
    let surplus: Vec<_> = compiled.difference(&table).collect();
    assert!(missing.is_empty() && surplus.is_empty(), "missing {missing:#?}, surplus {surplus:#?}");
    assert!(table.len() > 300, "the table has only {} rows", table.len());
}

fn table() -> BTreeSet<Row> {
    let rows = TABLE.lines().filter(|line| line.starts_with("newest\t"));
    rows.map(|line| {
        let mut columns = line.split('\t').skip(1).map(str::to_owned);
        let mut row: Row = std::array::from_fn(|_| columns.next().unwrap_or_default());
        let extra = columns.next().unwrap_or_default();
        if row[1] == "service" {
            // path; kind; in=..; out=..
            row[4] = extra.split(';').take(4).map(str::trim).collect::<Vec<_>>().join("; ");
        }
        row
    })
    .collect()
}

fn compiled() -> BTreeSet<Row> {
    let set = FileDescriptorSet::decode(DESCRIPTORS).expect("build.rs wrote it");
    let mut rows = BTreeSet::new();
    for file in &set.file {
        let package = file.package();
        for message in &file.message_type {
            message_rows(package, "", message, &mut rows);
        }
        for en in &file.enum_type {
            enum_rows(package, "", en, &mut rows);
        }
        for service in &file.service {
            for method in &service.method {
                let kind = match (method.client_streaming(), method.server_streaming()) {
                    (false, false) => "unary",
                    (false, true) => "server streaming",
                    (true, false) => "client streaming",
                    (true, true) => "bidirectional streaming",
                };
                let facts = format!(
                    "/{package}.{}/{}; {kind}; in={}; out={}",
                    service.name(),
                    method.name(),
                    method.input_type().trim_start_matches('.'),
                    method.output_type().trim_start_matches('.'),
                );
                rows.insert(
                    [package, "service", service.name(), method.name(), &facts, "rpc", ""]
                        .map(str::to_owned),
                );
            }
        }
    }
    rows
}

fn message_rows(package: &str, outer: &str, message: &DescriptorProto, rows: &mut BTreeSet<Row>) {
    let name = format!("{outer}{}", message.name());
    if message.field.is_empty() {
        rows.insert([package, "message", &name, "", "", "", ""].map(str::to_owned));
    }
    for field in &message.field {
        let kind = match field.r#type() {
            Type::Message | Type::Enum => field.type_name().trim_start_matches('.').to_owned(),
            scalar => scalar.as_str_name().trim_start_matches("TYPE_").to_lowercase(),
        };
        let label = match (field.oneof_index, field.label()) {
            (Some(place), _) => format!("oneof {}", message.oneof_decl[place as usize].name()),
            (None, Label::Repeated) => "repeated".to_owned(),
            (None, _) => "optional".to_owned(),
        };
        let number = field.number().to_string();
        rows.insert(
            [package, "message", &name, field.name(), &number, &kind, &label].map(str::to_owned),
        );
    }
    for nested in &message.nested_type {
        message_rows(package, &format!("{name}."), nested, rows);
    }
    for en in &message.enum_type {
        enum_rows(package, &format!("{name}."), en, rows);
    }
}

fn enum_rows(package: &str, outer: &str, en: &EnumDescriptorProto, rows: &mut BTreeSet<Row>) {
    let name = format!("{outer}{}", en.name());
    for value in &en.value {
        let number = value.number().to_string();
        rows.insert(
            [package, "enum", &name, value.name(), &number, "enum value", ""].map(str::to_owned),
        );
    }
}
