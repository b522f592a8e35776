//! What the contract once promised stays: no field, value or call that was published changes its number, type or name.
//!
//! After an addition, `RASID_FREEZE=1 cargo test --test contract_frozen` publishes it.

use std::{collections::BTreeMap, env, fs};

use prost_reflect::{DescriptorPool, Kind};
use rasid::proto::{ADMIN_FILE_DESCRIPTOR_SET, FILE_DESCRIPTOR_SET};

/// A contract of ours: its package and descriptors. Its published form is a file named after the package.
struct Contract(&'static str, &'static [u8]);

const CONTRACTS: [Contract; 2] =
    [Contract("rasid.v1", FILE_DESCRIPTOR_SET), Contract("rasid.admin.v1", ADMIN_FILE_DESCRIPTOR_SET)];

impl Contract {
    fn pool(&self) -> DescriptorPool {
        DescriptorPool::decode(self.1).unwrap()
    }

    fn published(&self) -> String {
        format!("{}/proto/{}.binpb", env!("CARGO_MANIFEST_DIR"), self.0)
    }
}

/// Every published fact of a package, by its name.
fn facts(package: &str, descriptors: &[u8]) -> BTreeMap<String, String> {
    let pool = DescriptorPool::decode(descriptors).unwrap();
    let mut facts = BTreeMap::new();
    for message in pool.all_messages().filter(|message| message.package_name() == package) {
        for field in message.fields() {
            let kind = match field.kind() {
                Kind::Message(message) => message.full_name().to_owned(),
                Kind::Enum(values) => values.full_name().to_owned(),
                kind => format!("{kind:?}"),
            };
            let oneof = field.containing_oneof().map(|oneof| oneof.name().to_owned());
            let fact = format!(
                "{} {kind} {:?} presence {} oneof {oneof:?}",
                field.number(),
                field.cardinality(),
                field.supports_presence()
            );
            facts.insert(field.full_name().to_owned(), fact);
        }
        facts.insert(
            format!("{} reserved", message.full_name()),
            format!("{:?}", message.reserved_ranges().collect::<Vec<_>>()),
        );
    }
    for values in pool.all_enums().filter(|values| values.package_name() == package) {
        for value in values.values() {
            facts.insert(value.full_name().to_owned(), value.number().to_string());
        }
    }
    for service in pool.services().filter(|service| service.package_name() == package) {
        for method in service.methods() {
            let (input, output) = (method.input(), method.output());
            let streams = (method.is_client_streaming(), method.is_server_streaming());
            facts.insert(
                method.full_name().to_owned(),
                format!("{} {} {streams:?}", input.full_name(), output.full_name()),
            );
        }
    }
    facts
}

#[test]
fn nothing_published_has_changed() {
    for contract in &CONTRACTS {
        if env::var_os("RASID_FREEZE").is_some() {
            fs::write(contract.published(), contract.1).unwrap();
        }
        let published = facts(contract.0, &fs::read(contract.published()).unwrap());
        let now = facts(contract.0, contract.1);
        assert!(published.len() > 25);
        for (name, fact) in &published {
            assert_eq!(now.get(name), Some(fact), "{name} was published otherwise");
        }
        let new: Vec<_> = now.keys().filter(|name| !published.contains_key(*name)).collect();
        assert!(new.is_empty(), "not published yet (see the head of this file): {new:?}");
    }
}

#[test]
fn the_public_contract_does_not_tell_of_the_other() {
    assert!(CONTRACTS[0].pool().files().all(|file| !file.package_name().starts_with("rasid.admin")));
}

#[test]
fn every_part_is_commented() {
    let pools = CONTRACTS.map(|contract| contract.pool());
    for file in pools.iter().flat_map(DescriptorPool::files).filter(|file| file.package_name().starts_with("rasid.")) {
        let proto = file.file_descriptor_proto();
        let locations = &proto.source_code_info.as_ref().unwrap().location;
        let commented = |path: &[i32]| {
            locations.iter().any(|location| location.path == path && location.leading_comments.is_some())
        };
        // Paths by descriptor.proto: messages 4 (fields 2), enums 5 (values 2), services 6 (methods 2).
        for (m, message) in proto.message_type.iter().enumerate() {
            assert!(commented(&[4, m as i32]), "{}", message.name());
            for (f, field) in message.field.iter().enumerate() {
                assert!(
                    commented(&[4, m as i32, 2, f as i32]) || message.options.is_some(),
                    "{}.{}",
                    message.name(),
                    field.name()
                );
            }
        }
        for (e, values) in proto.enum_type.iter().enumerate() {
            assert!(commented(&[5, e as i32]), "{}", values.name());
            for (v, value) in values.value.iter().enumerate() {
                assert!(commented(&[5, e as i32, 2, v as i32]), "{}", value.name());
            }
        }
        for (s, service) in proto.service.iter().enumerate() {
            assert!(commented(&[6, s as i32]), "{}", service.name());
            for (m, method) in service.method.iter().enumerate() {
                assert!(commented(&[6, s as i32, 2, m as i32]), "{}", method.name());
                // Clients may retry: NO_SIDE_EFFECTS, and IDEMPOTENT for what an operator may ask for.
                let allowed: &[i32] = if file.package_name() == "rasid.v1" { &[1] } else { &[1, 2] };
                let level = method.options.as_ref().unwrap().idempotency_level.unwrap();
                assert!(allowed.contains(&level), "{}", method.name());
            }
        }
    }
}

#[test]
fn enums_begin_with_unspecified_and_carry_their_prefix() {
    let pools = CONTRACTS.map(|contract| contract.pool());
    let enums = pools.iter().flat_map(DescriptorPool::all_enums);
    for values in enums.filter(|values| values.package_name().starts_with("rasid.")) {
        // buf's rule: OffsetUnit becomes OFFSET_UNIT_.
        let mut prefix = String::new();
        for letter in values.name().chars() {
            if letter.is_uppercase() && !prefix.is_empty() {
                prefix.push('_');
            }
            prefix.push(letter.to_ascii_uppercase());
        }
        assert_eq!(values.get_value(0).unwrap().name(), format!("{prefix}_UNSPECIFIED"));
        for value in values.values() {
            assert!(value.name().starts_with(&format!("{prefix}_")), "{}", value.name());
        }
    }
}
