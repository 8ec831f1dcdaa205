//! Members restarted one after another, while clients go on: none of them sees a request fail.

use crate::harness::{CALM, Group, run};
use crate::load::{Load, Plan};

#[test]
fn a_rolling_restart_fails_no_request() {
    run(
        || Group::new(3, CALM),
        async |group| {
            group.start_all()?;
            group.leader().await?;
            let load = Load::start(group, Plan::default());
            load.goes_on(50).await?;
            for _ in 0..2 {
                for id in group.ids() {
                    group.member(id).stop().await?;
                    group.member(id).start()?;
                    group.caught_up(id).await?;
                    load.goes_on(30).await?;
                }
            }
            let report = load.end(group).await?;
            eprintln!("{report}");
            assert_eq!(report.failures, Vec::<String>::new());
            Ok(())
        },
    );
}
