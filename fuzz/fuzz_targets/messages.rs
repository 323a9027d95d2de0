//! Any bytes as a message of either side: refused, or a value that is written and read as the same.
#![no_main]

use libfuzzer_sys::fuzz_target;
use prost::Message as _;
use ringwall_protocol::{List, ToAgent, ToController, wire};

fuzz_target!(|bytes: &[u8]| {
    if let Ok(Ok(message)) = wire::ToAgent::decode(bytes).map(ToAgent::try_from) {
        if let ToAgent::List(list) = &message
            && let Ok(list) = List::decode(list.clone())
        {
            assert_eq!(List::decode(list.encode()), Ok(list));
        }
        assert_eq!(ToAgent::try_from(wire::ToAgent::from(message.clone())), Ok(message));
    }
    if let Ok(Ok(message)) = wire::ToController::decode(bytes).map(ToController::try_from) {
        assert_eq!(ToController::try_from(wire::ToController::from(message.clone())), Ok(message));
    }
});
