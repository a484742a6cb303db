"""CronJobs; time starts at 08:00:00 UTC."""

from __future__ import annotations

from typing import Any

from .cluster import CONTAINER, START, Cluster, play

FIRST = int(START) // 60 + 1


def cron(cluster: Cluster, schedule: str = "* * * * *", **spec: Any) -> None:
    template = {"spec": {"restartPolicy": "Never", "containers": [CONTAINER]}}
    cluster.create(
        "cronjobs.batch",
        "tick",
        spec={"schedule": schedule, "jobTemplate": {"spec": {"template": template}}, **spec},
    )


def status(cluster: Cluster) -> Any:
    return cluster.get("cronjobs.batch", "tick")["status"]


def test_a_job_is_made_every_minute_and_its_end_is_seen() -> None:
    async def story(cluster: Cluster) -> None:
        cron(cluster)
        await cluster.settle(59)
        assert cluster.names("jobs.batch") == []
        await cluster.settle(1)
        name = f"tick-{FIRST}"
        assert cluster.names("jobs.batch") == [name]
        assert cluster.events("CronJob") == [("SuccessfulCreate", f"Created job {name}")]
        assert status(cluster)["lastScheduleTime"] == "2027-01-15T08:01:00Z"
        assert [job["name"] for job in status(cluster)["active"]] == [name]
        annotations = cluster.get("jobs.batch", name)["metadata"]["annotations"]
        scheduled = annotations["batch.kubernetes.io/cronjob-scheduled-timestamp"]
        assert scheduled == "2027-01-15T08:01:00Z"
        cluster.run_all("Succeeded")
        await cluster.settle()
        assert "active" not in status(cluster)
        assert status(cluster)["lastSuccessfulTime"] == "2027-01-15T08:01:00Z"
        message = f"Saw completed job: {name}, condition: Complete"
        assert cluster.events("CronJob")[-1] == ("SawCompletedJob", message)

    play(story)


def test_forbid_skips_while_one_runs() -> None:
    async def story(cluster: Cluster) -> None:
        cron(cluster, concurrencyPolicy="Forbid")
        await cluster.settle(120)
        assert cluster.names("jobs.batch") == [f"tick-{FIRST}"]
        assert cluster.events("CronJob")[-1] == (
            "JobAlreadyActive",
            "Not starting job because prior execution is running and concurrency policy is Forbid",
        )

    play(story)


def test_replace_deletes_the_one_that_runs() -> None:
    async def story(cluster: Cluster) -> None:
        cron(cluster, concurrencyPolicy="Replace")
        await cluster.settle(120)
        assert cluster.names("jobs.batch") == [f"tick-{FIRST + 1}"]
        assert ("SuccessfulDelete", f"Deleted job tick-{FIRST}") in cluster.events("CronJob")

    play(story)


def test_only_the_last_ended_jobs_are_kept() -> None:
    async def story(cluster: Cluster) -> None:
        cron(cluster, successfulJobsHistoryLimit=2)
        for _ in range(4):
            await cluster.settle(60)
            cluster.run_all("Succeeded")
            await cluster.settle()
        assert cluster.names("jobs.batch") == [f"tick-{FIRST + 2}", f"tick-{FIRST + 3}"]

    play(story)


def test_a_time_that_was_missed_by_too_much_is_told() -> None:
    async def story(cluster: Cluster) -> None:
        cron(cluster, suspend=True, startingDeadlineSeconds=10)
        await cluster.settle(90)
        cluster.change("cronjobs.batch", "tick", lambda c: c["spec"].update(suspend=False))
        await cluster.settle()
        assert cluster.names("jobs.batch") == []
        await cluster.settle(30)
        assert cluster.names("jobs.batch") == [f"tick-{FIRST + 1}"]

    play(story)


def test_the_schedule_is_in_its_time_zone() -> None:
    async def story(cluster: Cluster) -> None:
        # 08:00 UTC is 13:30 in Kolkata.
        cron(cluster, "35 13 * * *", timeZone="Asia/Kolkata")
        await cluster.settle(299)
        assert cluster.names("jobs.batch") == []
        await cluster.settle(1)
        assert cluster.names("jobs.batch") == [f"tick-{int(START) // 60 + 5}"]

    play(story)


def test_hundreds_of_missed_times_are_one_job() -> None:
    async def story(cluster: Cluster) -> None:
        cron(cluster, suspend=True)
        await cluster.settle(60 * 200)
        cluster.change("cronjobs.batch", "tick", lambda c: c["spec"].update(suspend=False))
        await cluster.settle()
        assert cluster.names("jobs.batch") == [f"tick-{FIRST + 199}"]
        assert dict(cluster.events("CronJob"))["TooManyMissedTimes"] == (
            "too many missed start times. Set or decrease .spec.startingDeadlineSeconds or check "
            "clock skew"
        )

    play(story)
