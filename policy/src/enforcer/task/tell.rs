//! What the enforcer says: status, report, denied packets.

use super::*;
use crate::compile::{PodReport, tag};
use crate::enforcer::ledger::Sums;
use crate::enforcer::status::{Count, Filter, PodState, PolicyState, Report};
use crate::program::{ChainName, Placement};

impl Task {
    // -- Status.

    /// Makes the status anew, if anything happened, and not too often.
    pub(super) fn tell(&mut self, now: Instant) {
        let is_first = self.view == View::Written && !self.status.borrow().written;
        let is_due = self.is_stale && self.timers.status <= now;
        if !(is_first || is_due) {
            return;
        }
        self.is_stale = false;
        self.timers.status = now + STATUS_PAUSE;
        let status = Status {
            written: self.view == View::Written,
            problems: self.problems(),
            repairs: self.told.repairs.clone(),
            counts: self.counts(),
            changes: self.told.changes,
            last_change: self.told.last_change,
            applied: self.told.applied,
            waiting: self
                .endpoints
                .keys()
                .filter_map(|name| Some((name.clone(), self.waiting(name)?)))
                .collect(),
            denials: self.denials.counts(),
        };
        self.status.send_replace(status);
    }

    fn problems(&self) -> Vec<String> {
        let mut problems = Vec::new();
        if let Some(Resync { why: Why::Refused { words, .. }, .. }) = &self.resync {
            problems.push(format!("the kernel does not take what is wanted: {words}"));
        }
        if self.repair_budget.is_strained() {
            let by = self.writer.last_touch().unwrap_or("unknown");
            problems.push(format!("another program keeps changing what is ours, last: {by}"));
        }
        problems.extend(self.log_problem.clone());
        for (policy, faults) in self.compiler.faults() {
            let Some(first) = faults.first() else { continue };
            let more =
                if faults.len() > 1 { format!(" (and {} more)", faults.len() - 1) } else { String::new() };
            problems.push(format!("policy {policy} fails closed: {first}{more}"));
        }
        problems
    }

    fn counts(&self) -> Counts {
        let program = self.compiler.program();
        let tables = [&program.ipv4, &program.ipv6];
        let lingering = &self.writer.mirror.lingering;
        let is_class = |name: &&ChainName| direction_of(name).is_some();
        Counts {
            policies: self.policies.len(),
            refused_policies: self.refusals.count(),
            endpoints: self.endpoints.len(),
            placed: self.writer.mirror.dispatch.len(),
            sets: tables.iter().map(|table| table.sets.len()).sum(),
            members: tables.iter().flat_map(|table| table.sets.values()).map(|set| set.members.len()).sum(),
            chains: tables.iter().map(|table| table.chains.keys().filter(is_class).count()).sum(),
            lingering: lingering.chains.len() + lingering.sets.len(),
        }
    }

    /// What an endpoint waits for; `None`: it is placed.
    fn waiting(&self, interface: &IfName) -> Option<Waiting> {
        if self.writer.mirror.dispatch.contains_key(interface) && self.resync.is_none() {
            return None;
        }
        let pod = self.endpoints.get(interface).and_then(|endpoint| endpoint.pod.clone());
        if self.view == View::Gathering {
            return Some(Waiting::FirstView);
        }
        let is_wanted = self.compiler.program().dispatch.contains_key(interface);
        Some(match pod {
            Some(pod) if !is_wanted && self.resync.is_none() => {
                match self.compiler.is_of_another(interface) {
                    true => Waiting::OwnPodObject(pod),
                    false => Waiting::PodObject(pod.key),
                }
            }
            _ => Waiting::Kernel,
        })
    }

    // -- Report.

    pub(super) fn report(&mut self, filter: Option<&Filter>) -> Report {
        let counted = self.writer.kernel.counters().unwrap_or_else(|error| {
            warn!(error = %error, "counters cannot be read");
            Vec::new()
        });
        let sums = self.ledger.sums(&counted);
        let pods = self.compiler.pods().filter(|pod| match filter {
            None => true,
            Some(Filter::Pod(key)) => pod.pod.as_ref() == Some(key),
            Some(Filter::Interface(name)) => pod.interface == *name,
            Some(Filter::Policy(key)) => pod.ingress.contains(key) || pod.egress.contains(key),
        });
        let pods = pods.map(|pod| self.pod_state(pod, &sums)).collect::<Vec<_>>();
        let isolates =
            |key: &Key| pods.iter().any(|pod| pod.pod.ingress.contains(key) || pod.pod.egress.contains(key));
        let policies = self.compiler.policies().filter(|policy| match filter {
            None => true,
            Some(Filter::Policy(key)) => policy.key == *key,
            Some(_) => isolates(&policy.key),
        });
        let count = |key: &Key, direction| {
            sums.allowed.get(&(tag::of_policy(key), direction)).copied().unwrap_or_default()
        };
        let policies = policies.map(|policy| PolicyState {
            ingress: count(&policy.key, Direction::Ingress),
            egress: count(&policy.key, Direction::Egress),
            policy,
        });
        Report { policies: policies.collect(), denied: sums.denied(), frame: sums.frame, pods }
    }

    fn pod_state(&self, pod: PodReport, sums: &Sums) -> PodState {
        let denied = |chain: fn(&Placement) -> &ChainName| {
            let count = pod.placement.as_ref().and_then(|placement| sums.denied_by.get(chain(placement)));
            count.copied().unwrap_or_default()
        };
        let denied_ingress: Count = denied(|placement| &placement.ingress);
        let denied_egress: Count = denied(|placement| &placement.egress);
        let denials =
            self.denials.kept().filter(|denial| denial.interface == pod.interface).cloned().collect();
        let waiting = self.waiting(&pod.interface);
        let is_judged = self.writer.mirror.dispatch.contains_key(&pod.interface);
        PodState { waiting, is_judged, denied_ingress, denied_egress, denials, pod }
    }

    // -- Denied packets.

    /// Another process may have read the group, and have ended.
    pub(super) fn open_log(&mut self) {
        if self.log.is_none() {
            match LogReader::open(self.config.options.log_group) {
                Ok(log) => {
                    (self.log, self.log_problem) = (Some(log), None);
                    info!("denied packets are heard of now");
                    self.is_stale = true;
                }
                Err(error) => debug!(error = %error, "denied packets are not heard of"),
            }
        }
    }

    pub(super) fn handle_denials(&mut self) {
        let Some(log) = &mut self.log else { return };
        let denied = log.wait(Duration::ZERO).unwrap_or_else(|error| {
            debug!(error = %error, "denied packets cannot be read");
            Vec::new()
        });
        self.is_stale |= self.denials.lost(log.lost());
        let now = Instant::now();
        for denied in denied {
            if let Some(denial) = self.denial(&denied) {
                self.denials.take(denial, now);
                self.is_stale = true;
            }
        }
    }

    /// Whose packet it was, and by which policies.
    fn denial(&self, denied: &Denied) -> Option<Denial> {
        let [input, output] = [denied.input, denied.output].map(|index| {
            let name = if_indextoname(index?).ok()?;
            name.to_str().ok().filter(|name| name.starts_with(VETH_PREFIX)).map(IfName::from)
        });
        let is_closed = |veth: &IfName| !self.writer.mirror.dispatch.contains_key(veth);
        // A chain of a class tells the way by its name; of a closed veth it shows by which of the two is.
        let direction = direction_of(&denied.prefix).unwrap_or(match &input {
            Some(veth) if output.is_none() || is_closed(veth) => Direction::Egress,
            _ => Direction::Ingress,
        });
        let (interface, peer_address) = match direction {
            Direction::Egress => (input?, denied.destination),
            Direction::Ingress => (output?, denied.source),
        };
        let class = self.ledger.class(&denied.prefix);
        Some(Denial {
            at: SystemTime::now(),
            direction,
            pod: self
                .endpoints
                .get(&interface)
                .and_then(|endpoint| endpoint.pod.as_ref())
                .map(|pod| pod.key.clone()),
            interface,
            peer_address,
            peer: self.compiler.owner(peer_address),
            protocol: denied.protocol,
            port: denied.ports.map(|(_, destination)| destination),
            policies: class.map(|class| class.policies.clone()).unwrap_or_default(),
            chain: denied.prefix.as_str().into(),
        })
    }
}
