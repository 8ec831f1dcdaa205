//! `--shard auto`: which part of a sweep a task of an array job runs, as its scheduler says it.

use super::shard::Shard;
use std::str::FromStr;
use thiserror::Error;

/// A shard as it is asked for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum ShardArg {
    Given(Shard),
    /// As the scheduler says: of so many, where the scheduler does not say of how many.
    Auto(Option<u64>),
}

/// A scheduler of array jobs, by the variables that it sets for a task.
struct Scheduler {
    /// The index of the task, from 0 unless `range` says otherwise.
    index: &'static str,
    range: Option<IndexRange>,
}

/// The variables that say which indices there are.
struct IndexRange {
    first: &'static str,
    step: &'static str,
    count: &'static str,
}

/// Slurm, Kubernetes (an indexed job) and AWS Batch.
const SCHEDULERS: [Scheduler; 3] = [
    Scheduler {
        index: "SLURM_ARRAY_TASK_ID",
        range: Some(IndexRange {
            first: "SLURM_ARRAY_TASK_MIN",
            step: "SLURM_ARRAY_TASK_STEP",
            count: "SLURM_ARRAY_TASK_COUNT",
        }),
    },
    Scheduler { index: "JOB_COMPLETION_INDEX", range: None },
    Scheduler { index: "AWS_BATCH_JOB_ARRAY_INDEX", range: None },
];

/// Why a task does not know its shard.
#[derive(Clone, PartialEq, Eq, Debug, Error)]
pub(super) enum ArrayError {
    #[error(
        "--shard auto: none of SLURM_ARRAY_TASK_ID, JOB_COMPLETION_INDEX and AWS_BATCH_JOB_ARRAY_INDEX is set: run this as a task of an array job, or write --shard 1/64"
    )]
    NoTask,
    #[error("--shard auto: both {0} and {1} are set: write --shard 1/64, or unset the one that is not meant")]
    TwoTasks(&'static str, &'static str),
    #[error("--shard auto: {variable} is `{value}`, which is no number: write --shard 1/64")]
    NoNumber { variable: &'static str, value: String },
    #[error(
        "--shard auto: {index} is set and {count} is not: write --shard auto/64 for an array of 64 tasks"
    )]
    NoCount { index: &'static str, count: &'static str },
    #[error(
        "--shard auto: {0} says which task this is, and not of how many: write --shard auto/64 for 64 of them"
    )]
    CountNotTold(&'static str),
    #[error(
        "--shard auto: {variable} is {index}, which is none of the {count} indices from {first} in steps of {step}: number the tasks without gaps, or from 0 with --shard auto/64"
    )]
    Outside { variable: &'static str, index: u64, first: u64, step: u64, count: u64 },
}

impl ShardArg {
    /// The shard, where the variables of the environment are these.
    pub(super) fn resolve(self, environment: impl Fn(&str) -> Option<String>) -> Result<Shard, ArrayError> {
        let count = match self {
            Self::Given(shard) => return Ok(shard),
            Self::Auto(count) => count,
        };
        let mut tasks = SCHEDULERS.iter().filter(|scheduler| environment(scheduler.index).is_some());
        let scheduler = tasks.next().ok_or(ArrayError::NoTask)?;
        if let Some(other) = tasks.next() {
            return Err(ArrayError::TwoTasks(scheduler.index, other.index));
        }
        scheduler.shard(count, &environment)
    }
}

impl Scheduler {
    fn shard(
        &self,
        count: Option<u64>,
        environment: &impl Fn(&str) -> Option<String>,
    ) -> Result<Shard, ArrayError> {
        let number = |variable: &'static str| {
            let parse =
                |value: String| value.trim().parse().map_err(|_| ArrayError::NoNumber { variable, value });
            environment(variable).map(parse).transpose()
        };
        let index = number(self.index)?.ok_or(ArrayError::NoTask)?;
        let (first, step, count) = match (&self.range, count) {
            (_, Some(count)) => (0, 1, count),
            (None, None) => return Err(ArrayError::CountNotTold(self.index)),
            (Some(range), None) => {
                let told = |variable| {
                    number(variable)?.ok_or(ArrayError::NoCount { index: self.index, count: variable })
                };
                (told(range.first)?, number(range.step)?.unwrap_or(1), told(range.count)?)
            }
        };
        let outside = ArrayError::Outside { variable: self.index, index, first, step, count };
        let from_first = index.checked_sub(first).filter(|offset| step > 0 && offset.is_multiple_of(step));
        from_first.and_then(|offset| Shard::new(offset / step + 1, count)).ok_or(outside)
    }
}

impl FromStr for ShardArg {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text.strip_prefix("auto") {
            None => text.parse().map(Self::Given),
            Some("") => Ok(Self::Auto(None)),
            Some(rest) => {
                let count = rest.strip_prefix('/').and_then(|count| count.parse().ok());
                let count = count.filter(|&count| count > 0);
                count.map(|count| Self::Auto(Some(count))).ok_or_else(|| {
                    format!("`{text}` is no shard: write auto, or auto/64 for an array of 64 tasks")
                })
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    type Variables<'v> = &'v [(&'v str, &'v str)];

    fn resolved(text: &str, variables: Variables<'_>) -> Result<String, String> {
        let environment =
            |name: &str| variables.iter().find(|(set, _)| *set == name).map(|(_, value)| (*value).to_owned());
        let shard = text.parse::<ShardArg>()?.resolve(environment);
        shard.map(|shard| shard.to_string()).map_err(|error| error.to_string())
    }

    const SLURM: [(&str, &str); 3] =
        [("SLURM_ARRAY_TASK_ID", "12"), ("SLURM_ARRAY_TASK_MIN", "10"), ("SLURM_ARRAY_TASK_COUNT", "64")];

    #[test]
    fn a_task_of_an_array_knows_its_shard() {
        let kubernetes = [("JOB_COMPLETION_INDEX", "0")];
        let aws = [("AWS_BATCH_JOB_ARRAY_INDEX", "63")];
        let stepped = [SLURM[0], SLURM[1], ("SLURM_ARRAY_TASK_COUNT", "5"), ("SLURM_ARRAY_TASK_STEP", "2")];
        assert_eq!(resolved("3/64", &[]).as_deref(), Ok("3/64"));
        assert_eq!(resolved("auto", &SLURM).as_deref(), Ok("3/64"));
        assert_eq!(resolved("auto", &stepped).as_deref(), Ok("2/5"));
        assert_eq!(resolved("auto/64", &SLURM).as_deref(), Ok("13/64"), "from 0, as in the other schedulers");
        assert_eq!(resolved("auto/64", &kubernetes).as_deref(), Ok("1/64"));
        assert_eq!(resolved("auto/64", &aws).as_deref(), Ok("64/64"));
    }

    #[test]
    fn a_task_that_does_not_know_its_shard_hears_which_variables_were_looked_for() {
        let index = |index: &'static str| [("JOB_COMPLETION_INDEX", index)];
        let two = [SLURM[0], ("JOB_COMPLETION_INDEX", "1")];
        let gaps = [("SLURM_ARRAY_TASK_ID", "99"), SLURM[1], SLURM[2]];
        let cases: [(&str, Variables<'_>, &str); 9] = [
            ("auto", &[], "none of SLURM_ARRAY_TASK_ID, JOB_COMPLETION_INDEX and AWS_BATCH_JOB_ARRAY_INDEX"),
            ("auto", &two, "both SLURM_ARRAY_TASK_ID and JOB_COMPLETION_INDEX"),
            ("auto", &index("1"), "JOB_COMPLETION_INDEX says which task this is, and not of how many"),
            ("auto/4", &index("4"), "JOB_COMPLETION_INDEX is 4, which is none of the 4 indices from 0"),
            ("auto/4", &index("x"), "JOB_COMPLETION_INDEX is `x`, which is no number"),
            ("auto", &SLURM[..1], "SLURM_ARRAY_TASK_MIN is not"),
            ("auto", &SLURM[..2], "SLURM_ARRAY_TASK_COUNT is not"),
            ("auto", &gaps, "is 99, which is none of the 64 indices from 10"),
            ("auto/0", &[], "write auto, or auto/64"),
        ];
        for (text, variables, wrong) in cases {
            let error = resolved(text, variables).unwrap_err();
            assert!(error.contains(wrong), "{text}: {error}");
        }
    }
}
