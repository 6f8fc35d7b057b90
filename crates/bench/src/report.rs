//! What was measured, as JSON and as tables, held against the goals.

use std::fmt::Write as _;
use std::path::Path;

use anyhow::{Context as _, Result};
use serde::Serialize;

use crate::floor::{Floor, Protection};
use crate::load::{FIXED_RATE, Idle, Load, Measured, Shown};
use crate::neighbours::Neighbours;
use crate::policy::Policy;

/// CPU per event is to be at most this many times the floor, with one delivery to each.
const GOAL_TIMES_FLOOR: f64 = 1.5;

/// The same with many deliveries to each: what an event costs once is shared by them.
const GOAL_TIMES_FLOOR_FAN_OUT: f64 = 1.3;

/// Durable events per second, end to end, with generator, service and receiver on two cores.
const GOAL_EVENTS_PER_SECOND: f64 = 15_000.0;

/// Memory with 10,000 idle endpoints.
const GOAL_IDLE_MIB: f64 = 30.0;

/// CPU that ten idle seconds may use: two ticks, the least that can be told from none.
const GOAL_IDLE_CPU_MILLIS: f64 = 20.0;

/// The p99 from publish to receipt beside bad neighbours is at most this many times that alone.
const GOAL_TIMES_ALONE: f64 = 2.0;

/// What bad neighbours may add to the memory: half of what the engine keeps deliveries in, which is
/// all that one account gets, and as much again for their connections.
const GOAL_GROWTH_MIB: f64 = 64.0;

/// Everything that was measured.
#[derive(Debug, Default, Serialize)]
pub(crate) struct Report {
    /// Processors of this machine.
    pub(crate) processors: usize,
    /// The floor, if measured.
    pub(crate) floor: Option<Floor>,
    /// What protection costs, if measured.
    pub(crate) protection: Option<Protection>,
    /// The loads run.
    pub(crate) loads: Vec<Shown>,
}

impl Report {
    /// Adds what a load showed.
    pub(crate) fn add(&mut self, shown: Shown) {
        if let (Shown::Measured(measured), Some(protection)) = (&shown, &mut self.protection)
            && measured.load == Load::One.title()
        {
            protection.hold_against(measured.cpu_micros_per_event);
        }
        self.loads.push(shown);
    }

    /// Writes it as JSON.
    pub(crate) fn write_json(&self, file: &Path) -> Result<()> {
        let measured = serde_json::json!({ "measured": self, "goals": self.goals() });
        let text = serde_json::to_string_pretty(&measured)?;
        std::fs::write(file, text).with_context(|| format!("writing {}", file.display()))
    }

    /// As tables in Markdown.
    pub(crate) fn tables(&self) -> Result<String> {
        let mut text = String::new();
        if let Some(floor) = &self.floor {
            write_floor(&mut text, floor)?;
        }
        let measured: Vec<&Measured> = self
            .loads
            .iter()
            .filter_map(|shown| match shown {
                Shown::Measured(measured) => Some(measured),
                Shown::Idle(_) | Shown::Neighbours(_) | Shown::Policy(_) => None,
            })
            .collect();
        if !measured.is_empty() {
            write_loads(&mut text, &measured, self.floor.as_ref())?;
        }
        if let Some(protection) = &self.protection {
            protection.write(&mut text)?;
        }
        for shown in &self.loads {
            if let Shown::Neighbours(neighbours) = shown {
                neighbours.write(&mut text)?;
            }
            if let Shown::Policy(policy) = shown {
                policy.write(&mut text)?;
            }
        }
        let goals = self.goals();
        if !goals.is_empty() {
            writeln!(text, "\n| goal | reached | |\n| --- | --- | --- |")?;
            for goal in goals {
                let kept = if goal.kept { "met" } else { "**missed**" };
                writeln!(text, "| {} | {} | {kept} |", goal.name, goal.reached)?;
            }
        }
        Ok(text)
    }

    /// Every goal that the loads run can speak of.
    fn goals(&self) -> Vec<Goal> {
        let mut goals = Vec::new();
        for shown in &self.loads {
            match shown {
                Shown::Idle(idle) => goals.extend(idle_goals(idle)),
                Shown::Neighbours(neighbours) => goals.extend(neighbour_goals(neighbours)),
                Shown::Policy(policy) => goals.extend(policy_goals(policy)),
                Shown::Measured(measured) => {
                    goals.extend(self.load_goals(measured));
                }
            }
        }
        goals
    }

    fn load_goals(&self, measured: &Measured) -> Vec<Goal> {
        let load = measured.load;
        let mut goals = vec![Goal {
            name: format!("{load}: nothing lost, repeated or made up; stopped in good order"),
            reached: format!(
                "{} lost, {} repeated, {} made up, {}",
                measured.lost,
                measured.repeated,
                measured.phantoms,
                if measured.stopped_in_order { "stopped" } else { "did not stop" }
            ),
            kept: measured.lost + measured.repeated + measured.phantoms == 0
                && measured.stopped_in_order,
        }];
        if load == Load::FixedRate.title() {
            goals.extend(latency_goals(measured));
            return goals;
        }
        if let Some(floor) = &self.floor {
            let times = times_floor(measured, floor);
            let limit = if measured.deliveries_per_event == 1 {
                GOAL_TIMES_FLOOR
            } else {
                GOAL_TIMES_FLOOR_FAN_OUT
            };
            goals.push(Goal {
                name: format!("{load}: CPU ≤ {limit} × floor"),
                reached: format!("{times:.2} ×"),
                kept: times <= limit,
            });
        }
        if measured.deliveries_per_event == 1 {
            goals.push(Goal {
                name: format!("{load}: ≥ {GOAL_EVENTS_PER_SECOND:.0} events/s"),
                reached: format!("{:.0}", measured.events_per_second),
                kept: measured.events_per_second >= GOAL_EVENTS_PER_SECOND,
            });
        }
        goals
    }
}

#[derive(Debug, Serialize)]
struct Goal {
    name: String,
    reached: String,
    kept: bool,
}

fn times_floor(measured: &Measured, floor: &Floor) -> f64 {
    measured.cpu_micros_per_event / floor.micros_per_event(measured.deliveries_per_event)
}

fn latency_goals(measured: &Measured) -> Vec<Goal> {
    let fsync = measured.fsync;
    let goal = |name: &str, reached: f64, limit: f64| Goal {
        name: format!("{FIXED_RATE} events/s: {name}, here {limit:.2} ms"),
        reached: format!("{reached:.2} ms"),
        kept: reached <= limit,
    };
    vec![
        goal(
            "publish to receipt p50 ≤ 1.75 × fsync p50 + 0.8 ms",
            measured.receipt.p50_ms,
            1.75 * fsync.p50_ms + 0.8,
        ),
        goal(
            "publish to receipt p99 ≤ 2 × fsync p99 + 5 ms",
            measured.receipt.p99_ms,
            2.0 * fsync.p99_ms + 5.0,
        ),
    ]
}

fn idle_goals(idle: &Idle) -> [Goal; 2] {
    let memory = idle.memory_mib.max(idle.memory_after_restart_mib);
    [
        Goal {
            name: format!("idle, {} endpoints: ≤ {GOAL_IDLE_MIB:.0} MiB", idle.endpoints),
            reached: format!(
                "{:.1} MiB, {:.1} MiB after a restart",
                idle.memory_mib, idle.memory_after_restart_mib
            ),
            kept: memory <= GOAL_IDLE_MIB,
        },
        Goal {
            name: format!("idle, {} endpoints: no measurable CPU", idle.endpoints),
            reached: format!("{:.0} ms in {} s", idle.cpu_millis, idle.seconds),
            kept: idle.cpu_millis <= GOAL_IDLE_CPU_MILLIS,
        },
    ]
}

fn neighbour_goals(neighbours: &Neighbours) -> [Goal; 3] {
    let unsound = neighbours.lost + neighbours.repeated + neighbours.phantoms;
    let name = |what: &str| format!("{}: {what}", Load::BadNeighbours.title());
    [
        Goal {
            name: name(
                "nothing of the good account lost, repeated or made up; stopped in good order",
            ),
            reached: format!(
                "{} lost, {} repeated, {} made up, {}",
                neighbours.lost,
                neighbours.repeated,
                neighbours.phantoms,
                if neighbours.stopped_in_order { "stopped" } else { "did not stop" }
            ),
            kept: unsound == 0 && neighbours.stopped_in_order,
        },
        Goal {
            name: name(&format!("p99 to receipt ≤ {GOAL_TIMES_ALONE} × alone")),
            reached: format!("{:.2} ×", neighbours.p99_times_alone),
            kept: neighbours.p99_times_alone <= GOAL_TIMES_ALONE,
        },
        Goal {
            name: name(&format!("memory grows by ≤ {GOAL_GROWTH_MIB:.0} MiB")),
            reached: format!("{:.1} MiB", neighbours.memory_growth_mib),
            kept: neighbours.memory_growth_mib <= GOAL_GROWTH_MIB,
        },
    ]
}

fn policy_goals(policy: &Policy) -> impl Iterator<Item = Goal> {
    policy.goals.iter().map(|goal| Goal {
        name: format!("{}: {}", policy.load, goal.what),
        reached: goal.reached.clone(),
        kept: goal.kept,
    })
}

fn write_floor(text: &mut String, floor: &Floor) -> Result<()> {
    writeln!(text, "| floor, CPU µs per event | 1 delivery | 10 deliveries |")?;
    writeln!(text, "| --- | --- | --- |")?;
    let intake = floor.intake_micros;
    writeln!(text, "| bare hyper intake | {intake:.1} | {intake:.1} |")?;
    let (one, ten) = (floor.storage_micros, floor.storage_of_ten_micros);
    writeln!(text, "| bare SQLite group commit | {one:.1} | {ten:.1} |")?;
    let (one, ten) = (floor.sending_micros, 10.0 * floor.sending_micros);
    writeln!(text, "| bare hyper client with both signatures | {one:.1} | {ten:.1} |")?;
    let (one, ten) = (floor.micros_per_event(1), floor.micros_per_event(10));
    writeln!(text, "| sum | {one:.1} | {ten:.1} |")?;
    writeln!(
        text,
        "\nBare storage alone: {:.0} events/s, {:.0} bytes written per event.",
        floor.storage_events_per_second, floor.storage_written_bytes
    )?;
    Ok(())
}

fn write_loads(text: &mut String, loads: &[&Measured], floor: Option<&Floor>) -> Result<()> {
    writeln!(
        text,
        "\n| load | events | events/s | CPU µs/event | × floor | generator, receiver: CPU µs/event \
         | peak MiB | fsyncs/event | bytes/event |\n| --- | --- | --- | --- | --- | --- | --- | --- | --- |"
    )?;
    for load in loads {
        let times =
            floor.map_or("–".to_owned(), |floor| format!("{:.2}", times_floor(load, floor)));
        let commits =
            load.commits_per_event.map_or("–".to_owned(), |commits| format!("{commits:.3}"));
        writeln!(
            text,
            "| {} | {} | {:.0} | {:.1} | {times} | {:.1}, {:.1} | {:.1} | {commits} | {:.0} |",
            load.load,
            load.events,
            load.events_per_second,
            load.cpu_micros_per_event,
            load.generator_cpu_micros_per_event,
            load.receiver_cpu_micros_per_event,
            load.memory_peak_mib,
            load.written_bytes_per_event,
        )?;
    }
    writeln!(
        text,
        "\n| p50 / p99 / max in ms | publish answered | publish to receipt | fsync in the same run \
         | generator late |\n| --- | --- | --- | --- | --- |"
    )?;
    for load in loads {
        writeln!(
            text,
            "| {} | {} | {} | {} | {} |",
            load.load, load.publish, load.receipt, load.fsync, load.generator_late
        )?;
    }
    Ok(())
}
