use proptest::prelude::*;

use super::*;

/// `candidates` and `runner` (0: nobody) of each pipeline.
fn snapshot(units: &[(&[Member], Member)]) -> Snapshot {
    let mut snapshot = Snapshot::default();
    for (number, (candidates, runner)) in units.iter().enumerate() {
        let unit = PipelineId(number as u32);
        snapshot.candidates.insert(unit, candidates.iter().copied().collect());
        if *runner != 0 {
            snapshot.runners.insert(unit, *runner);
        }
    }
    snapshot
}

fn loads(plan: &Plan, members: &[Member]) -> Vec<usize> {
    members.iter().map(|member| plan.load(*member)).collect()
}

/// How many pipelines somebody carries now and is to give away.
fn moved(snapshot: &Snapshot, plan: &Plan) -> usize {
    let settled =
        snapshot.candidates.keys().filter_map(|unit| Some((unit, snapshot.settled(*unit)?)));
    settled.filter(|(unit, runner)| plan.runner(**unit) != Some(*runner)).count()
}

#[test]
fn the_first_process_takes_everything() {
    let now = snapshot(&[(&[7], 0), (&[7], 0), (&[7], 0)]);
    let plan = Plan::of(&now);
    assert_eq!((plan.load(7), plan.runner(PipelineId(2))), (3, Some(7)));
}

#[test]
fn a_second_process_gets_half_and_a_third_a_third() {
    let two = snapshot(&[(&[1, 2][..], 1); 6]);
    let plan = Plan::of(&two);
    assert_eq!((loads(&plan, &[1, 2]), moved(&two, &plan)), (vec![3, 3], 3));
    let shared = [1, 1, 1, 2, 2, 2].map(|runner| (&[1, 2, 3][..], runner));
    let three = snapshot(&shared);
    let plan = Plan::of(&three);
    assert_eq!((loads(&plan, &[1, 2, 3]), moved(&three, &plan)), (vec![2, 2, 2], 2));
}

#[test]
fn what_is_balanced_stays() {
    let now = snapshot(&[(&[1, 2], 2), (&[1, 2], 1), (&[1, 2], 2)]);
    let plan = Plan::of(&now);
    assert_eq!((loads(&plan, &[1, 2]), moved(&now, &plan)), (vec![1, 2], 0));
}

#[test]
fn what_a_process_left_behind_goes_to_the_others() {
    // 3 is gone or stops: it carries two still, and offers to carry nothing.
    let now = snapshot(&[(&[1, 2], 1), (&[1, 2], 2), (&[1, 2], 3), (&[1, 2], 3)]);
    let plan = Plan::of(&now);
    assert_eq!((loads(&plan, &[1, 2]), moved(&now, &plan)), (vec![2, 2], 0));
}

#[test]
fn a_pipeline_goes_only_where_it_is_known() {
    // 2 knows one of them; 1 carries four.
    let now = snapshot(&[(&[1], 1), (&[1], 1), (&[1, 2], 1), (&[1], 1)]);
    let plan = Plan::of(&now);
    assert_eq!((plan.runner(PipelineId(2)), loads(&plan, &[1, 2])), (Some(2), vec![3, 1]));
    // Nobody knows it any more.
    let now = snapshot(&[(&[], 1), (&[2], 0)]);
    assert_eq!(Plan::of(&now).runner(PipelineId(0)), None);
}

#[test]
fn a_chain_relieves_whom_nobody_can_relieve_directly() {
    // 1 can give to 2 alone, and 2 can give to 3.
    let now = snapshot(&[(&[1, 2], 1), (&[1, 2], 1), (&[2, 3], 2)]);
    let plan = Plan::of(&now);
    assert_eq!((loads(&plan, &[1, 2, 3]), moved(&now, &plan)), (vec![1, 1, 1], 2));
}

fn anything() -> impl Strategy<Value = Snapshot> {
    let unit = (prop::collection::btree_set(1..6_i32, 0..5), 0..7_i32);
    prop::collection::vec(unit, 0..12).prop_map(|units| {
        let mut snapshot = Snapshot::default();
        for (number, (candidates, runner)) in units.into_iter().enumerate() {
            snapshot.candidates.insert(PipelineId(number as u32), candidates);
            if runner != 0 {
                snapshot.runners.insert(PipelineId(number as u32), runner);
            }
        }
        snapshot
    })
}

/// Every process knows every pipeline.
fn equals() -> impl Strategy<Value = (usize, Snapshot)> {
    (1..6_i32, prop::collection::vec(0..7_i32, 0..20)).prop_map(|(members, runners)| {
        let all: Vec<Member> = (1..=members).collect();
        let units: Vec<(&[Member], Member)> =
            runners.iter().map(|runner| (&all[..], *runner)).collect();
        (all.len(), snapshot(&units))
    })
}

/// What the next look shows when every process has done what the plan says.
fn carried_out(now: &Snapshot, plan: &Plan) -> Snapshot {
    Snapshot { candidates: now.candidates.clone(), runners: plan.runners.clone() }
}

proptest! {
    #[test]
    fn only_candidates_carry_and_nothing_is_left_over(now in anything()) {
        let plan = Plan::of(&now);
        for (unit, candidates) in &now.candidates {
            match plan.runner(*unit) {
                Some(runner) => prop_assert!(candidates.contains(&runner)),
                None => prop_assert!(candidates.is_empty()),
            }
        }
        let carried: usize = plan.loads.values().sum();
        prop_assert_eq!(carried, plan.runners.len());
    }

    #[test]
    fn nobody_could_give_one_to_a_process_with_two_less(now in anything()) {
        let plan = Plan::of(&now);
        for (unit, runner) in &plan.runners {
            for other in &now.candidates[unit] {
                prop_assert!(plan.load(*runner) < plan.load(*other) + 2);
            }
        }
    }

    #[test]
    fn what_was_carried_out_moves_nothing_more(now in anything()) {
        let plan = Plan::of(&now);
        let next = carried_out(&now, &plan);
        prop_assert_eq!(moved(&next, &Plan::of(&next)), 0);
    }

    #[test]
    fn equals_differ_by_one_at_most_and_as_few_move_as_possible((members, now) in equals()) {
        let plan = Plan::of(&now);
        let (units, mut held) = (now.candidates.len(), vec![0_usize; members]);
        for unit in now.candidates.keys() {
            if let Some(runner) = now.settled(*unit) {
                held[runner as usize - 1] += 1;
            }
        }
        held.sort_by_key(|held| std::cmp::Reverse(*held));
        // Those with the most keep one more, where it does not divide evenly.
        let share = |place: usize| units / members + usize::from(place < units % members);
        let least: usize =
            held.iter().enumerate().map(|(place, held)| held.saturating_sub(share(place))).sum();
        prop_assert_eq!(moved(&now, &plan), least);
        let loads = (1..=members as i32).map(|member| plan.load(member));
        let (low, high) = (loads.clone().min().unwrap(), loads.max().unwrap());
        prop_assert!(high - low <= 1, "{:?}", plan);
    }

    /// A process at a time acts on what it sees, and hands over in two steps: it stops offering,
    /// then lets go. Whoever is to have it takes it when it is free.
    #[test]
    fn processes_that_look_one_after_another_come_to_rest(
        now in anything(),
        turns in prop::collection::vec(1..6_i32, 400),
    ) {
        let mut now = now;
        // Those that are gone have let go.
        now.runners.retain(|_, runner| *runner < 6);
        let knows = now.candidates.clone();
        for me in turns.into_iter().chain((0..40).flat_map(|_| 1..6)) {
            act(&mut now, &knows, me);
        }
        let rest = now.clone();
        (1..6).for_each(|me| act(&mut now, &knows, me));
        prop_assert_eq!(&rest, &now, "still moving");
        for (unit, candidates) in &knows {
            prop_assert_eq!(now.runners.contains_key(unit), !candidates.is_empty());
        }
    }
}

fn act(now: &mut Snapshot, knows: &BTreeMap<PipelineId, BTreeSet<Member>>, me: Member) {
    let plan = Plan::of(now);
    for (unit, candidates) in knows {
        let (runner, offers) = (now.runners.get(unit).copied(), now.is_candidate(*unit, me));
        if runner == Some(me) && offers && plan.runner(*unit) != Some(me) {
            now.candidates.get_mut(unit).unwrap().remove(&me);
        } else if runner == Some(me) && !offers {
            now.runners.remove(unit);
            if candidates.contains(&me) {
                now.candidates.get_mut(unit).unwrap().insert(me);
            }
        } else if runner.is_none() && plan.runner(*unit) == Some(me) {
            now.runners.insert(*unit, me);
        }
    }
}
