use std::collections::BTreeSet;

use tenure::wire::etcdserverpb::{
    AlarmMember, AlarmRequest, AlarmType, alarm_request::AlarmAction,
};

/// The alarms that are up, by kind and member.
#[derive(Debug, Default)]
pub(crate) struct Alarms(BTreeSet<(i32, u64)>);

impl Alarms {
    pub(crate) fn raise(&mut self, alarm: AlarmType, member: u64) {
        self.0.insert((alarm as i32, member));
    }

    pub(crate) fn lift(&mut self, alarm: AlarmType) {
        self.0.retain(|(kind, _)| *kind != alarm as i32);
    }

    pub(crate) fn is_up(&self, alarm: AlarmType) -> bool {
        self.0.range((alarm as i32, 0)..=(alarm as i32, u64::MAX)).next().is_some()
    }

    pub(crate) fn all(&self) -> Vec<AlarmMember> {
        self.0.iter().map(|(alarm, member_id)| shown(*alarm, *member_id)).collect()
    }

    /// Lists, raises or lifts alarms, and says which ones were meant.
    pub(crate) fn handle(&mut self, request: &AlarmRequest) -> Vec<AlarmMember> {
        let meant = (request.alarm, request.member_id);
        match request.action() {
            AlarmAction::Get => {
                let of_kind = self.0.iter().filter(|(alarm, _)| {
                    request.alarm == AlarmType::None as i32 || request.alarm == *alarm
                });
                of_kind.map(|(alarm, member)| shown(*alarm, *member)).collect()
            }
            // What is no alarm is not raised.
            AlarmAction::Activate
                if !matches!(request.alarm(), AlarmType::Nospace | AlarmType::Corrupt) =>
            {
                Vec::new()
            }
            AlarmAction::Activate => {
                self.0.insert(meant);
                vec![shown(meant.0, meant.1)]
            }
            AlarmAction::Deactivate => {
                let lifted = self.0.remove(&meant);
                lifted.then(|| shown(meant.0, meant.1)).into_iter().collect()
            }
        }
    }
}

fn shown(alarm: i32, member_id: u64) -> AlarmMember {
    AlarmMember { member_id, alarm }
}
