//! Messages by the names of their fields.

use std::sync::LazyLock;

use prost_reflect::{
    DescriptorPool, DynamicMessage, MessageDescriptor, MethodDescriptor, ReflectMessage, Value,
    text_format::FormatOptions,
};

static POOL: LazyLock<DescriptorPool> = LazyLock::new(|| {
    let set = include_bytes!(concat!(env!("OUT_DIR"), "/etcd.fds"));
    DescriptorPool::decode(&set[..]).expect("build.rs wrote it")
});

/// A method by its name in the cases: `package.Service/Method`.
pub(crate) fn method(rpc: &str) -> MethodDescriptor {
    let (service, method) = rpc.split_once('/').expect("a service and a method");
    let service = POOL.get_service_by_name(service).expect("a service of etcd");
    let found = service.methods().find(|found| found.name() == method);
    found.unwrap_or_else(|| panic!("{rpc} is not in proto/"))
}

pub(crate) fn decode(kind: &MessageDescriptor, bytes: &[u8]) -> Result<DynamicMessage, String> {
    let decoded = DynamicMessage::decode(kind.clone(), bytes);
    decoded.map_err(|error| format!("no {}, {error}: {bytes:?}", kind.name()))
}

/// The value at a path such as `alarms.0.memberID` or `success[0].request_put.value`. A message on
/// the way is made if it is not there, an element of a list is not.
pub(crate) fn at<'a>(message: &'a mut DynamicMessage, path: &str) -> Option<&'a mut Value> {
    let mut names = path.split(['.', '[', ']']).filter(|name| !name.is_empty());
    let mut value = message.get_field_by_name_mut(names.next()?)?;
    for name in names {
        value = match value {
            Value::List(values) => values.get_mut(name.parse::<usize>().ok()?)?,
            Value::Message(message) => message.get_field_by_name_mut(name)?,
            _ => return None,
        };
    }
    Some(value)
}

/// Clears what tells one cluster from another, at every depth.
pub(crate) fn clear_identity(message: &mut DynamicMessage) {
    if message.descriptor().name() == "ResponseHeader" {
        for field in ["cluster_id", "member_id", "raft_term"] {
            message.clear_field_by_name(field);
        }
    }
    for (_, value) in message.fields_mut() {
        each_message(value, clear_identity);
    }
}

/// Clears a field such as `alarms.memberID`, in each message of a list; or, for `sort:` and a
/// field, sorts it.
pub(crate) fn mask(message: &mut DynamicMessage, path: &str) {
    if let Some(field) = path.strip_prefix("sort:") {
        let list = message.get_field_by_name_mut(field).and_then(Value::as_list_mut);
        list.unwrap_or_else(|| panic!("{field} is no list")).sort_by_key(ToString::to_string);
        return;
    }
    let (field, rest) = path.split_once('.').map_or((path, None), |(f, rest)| (f, Some(rest)));
    match (message.get_field_by_name_mut(field), rest) {
        (None, _) => panic!("{field} is no field of {}", message.descriptor().name()),
        (Some(_), None) => message.clear_field_by_name(field),
        (Some(value), Some(rest)) => each_message(value, |message| mask(message, rest)),
    }
}

fn each_message(value: &mut Value, mut change: impl FnMut(&mut DynamicMessage)) {
    match value {
        Value::Message(message) => change(message),
        Value::List(values) => {
            values.iter_mut().filter_map(Value::as_message_mut).for_each(change);
        }
        _ => {}
    }
}

/// Readable, on one line, and with what is not in our definitions.
pub(crate) fn text(message: &DynamicMessage) -> String {
    let options = FormatOptions::new().skip_unknown_fields(false);
    let text = message.to_text_format_with_options(&options);
    format!("{} {{{text}}}", message.descriptor().name())
}
