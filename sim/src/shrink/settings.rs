//! What may be taken out of a scenario beside its members and what befalls them: each for itself.

use crate::scenario::{Heal, NetworkSpec, Scenario, SnapshotSpec};
use kontiki_core::config::{MAX_PRIORITY, Options};
use kontiki_core::membership::MemberKind;
use serde_json::Value;

/// One change that makes a scenario simpler; it changes nothing where that is so already.
pub(super) type Change = fn(&mut Scenario);

/// Less to do for clients.
pub(super) const CLIENTS: &[Change] = &[
    |it| it.workload.clients = 1,
    |it| it.workload.clients = it.workload.clients.div_ceil(2),
    |it| it.workload.batch = 1,
    |it| it.workload.large = 0,
    |it| it.workload.payload_bytes = it.workload.payload_bytes.min(24),
    |it| it.workload.read = 0,
    |it| it.workload.lease = 0,
    |it| it.workload.anywhere = 0,
    |it| it.workload.probe = false,
    |it| it.workload.keys = 1,
];

/// Fewer features, of the world and of members.
pub(super) const FEATURES: &[Change] = &[
    |it| it.contests = None,
    |it| it.contests.iter_mut().for_each(|spec| spec.times = 1),
    |it| it.contests.iter_mut().for_each(|spec| spec.alarm = false),
    |it| it.contests.iter_mut().for_each(|spec| spec.drift = false),
    |it| it.old_messages = None,
    |it| it.snapshots = SnapshotSpec::default(),
    |it| it.snapshots.fail = 0,
    |it| it.members.iter_mut().for_each(|member| member.witness = false),
    |it| it.members.iter_mut().for_each(|member| member.initially = MemberKind::Voter),
    |it| it.options = Options { seed: it.options.seed, ..Options::default() },
    |it| it.heal = Heal::Everything,
    |it| it.quiet = false,
    |it| it.replica.iter_mut().for_each(|replica| replica.sessions = 0),
    |it| it.replica.iter_mut().for_each(|replica| replica.old_wire.clear()),
    |it| it.replica.iter_mut().for_each(|replica| replica.late = 0),
    |it| it.replica.iter_mut().for_each(|replica| replica.forward = false),
];

/// Less chance: of the network, of disks, and between members.
pub(super) const CHANCE: &[Change] = &[
    |it| {
        let NetworkSpec { latency_min_us, latency_max_us, tail_max_us, bandwidth, .. } = it.network;
        let (drop, duplicate, reorder, tail, corrupt, notice) = (0, 0, 0, 0, 0, 0);
        it.network = NetworkSpec {
            latency_min_us,
            latency_max_us,
            drop,
            duplicate,
            reorder,
            tail,
            tail_max_us,
            corrupt,
            notice,
            bandwidth,
        };
    },
    |it| it.network.drop = 0,
    |it| it.network.drop /= 2,
    |it| it.network.duplicate = 0,
    |it| it.network.duplicate /= 2,
    |it| it.network.reorder = 0,
    |it| it.network.reorder /= 2,
    |it| it.network.tail = 0,
    |it| it.network.tail /= 2,
    |it| it.network.corrupt = 0,
    |it| it.network.corrupt /= 2,
    |it| it.network.notice = 0,
    |it| it.network.bandwidth = None,
    |it| it.network.latency_max_us = it.network.latency_min_us,
    |it| it.disk.tail = 0,
    |it| it.disk.sync_max_us = it.disk.sync_min_us,
    |it| it.members.iter_mut().for_each(|member| member.clock_ppm = 0),
    |it| it.members.iter_mut().for_each(|member| member.priority = MAX_PRIORITY),
    |it| it.members.iter_mut().for_each(|member| member.keeps_state = false),
    |it| it.members.iter_mut().for_each(|member| member.apply_us = 0),
    |it| it.members.iter_mut().for_each(|member| member.sync_us = 0),
    |it| it.members.iter_mut().for_each(|member| member.link_us = 0),
];

/// The names of all options.
pub(super) fn options() -> Vec<String> {
    match serde_json::to_value(Options::default()) {
        Ok(Value::Object(fields)) => fields.into_iter().map(|(name, _)| name).collect(),
        _ => Vec::new(),
    }
}

/// Sets one option to its default.
pub(super) fn reset(scenario: &mut Scenario, option: &str) {
    let json = |options: &Options| serde_json::to_value(options).ok();
    let (Some(mut options), Some(defaults)) = (json(&scenario.options), json(&Options::default())) else {
        return;
    };
    options[option] = defaults[option].clone();
    if let Ok(options) = serde_json::from_value(options) {
        scenario.options = options;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::scenario::Profile;

    #[test]
    fn every_option_can_be_reset_for_itself() {
        let drawn = Scenario::draw(3, 3, Profile::Swarm);
        let mut scenario = drawn.clone();
        scenario.options.max_payload_bytes = 77;
        reset(&mut scenario, "max_payload_bytes");
        let max_payload_bytes = Options::default().max_payload_bytes;
        assert_eq!(scenario.options, Options { max_payload_bytes, ..drawn.options });
        options().iter().for_each(|option| reset(&mut scenario, option));
        assert_eq!(scenario.options, Options::default());
    }
}
