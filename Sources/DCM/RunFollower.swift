import Foundation
import Stack

/// Follows the runs of the sample studies through the monitor's API and says what changes.
struct RunFollower: Sendable {
    private let api: MonitorAPI
    private let sample: SampleStudies
    private let started: ContinuousClock.Instant

    init(endpoints: Endpoints, sample: SampleStudies, started: ContinuousClock.Instant) {
        api = MonitorAPI(base: endpoints.monitor, token: endpoints.monitorToken)
        self.sample = sample
        self.started = started
    }

    /// - Returns: the runs with their jobs, when all have finished.
    /// - Throws: ``StackError`` `.timedOut` with what is still missing.
    func follow(for limit: Duration) async throws -> [MonitorAPI.Run] {
        let titles = Self.titles(sample)
        let studies = sample.patients.map(\.studies.count).reduce(0, +)
        say("\nFollowing \(studies) studies; Orthanc reports each when no image of it came for its StableAge")
        var said: [String: String] = [:]
        var seen: [String: MonitorAPI.Run] = [:]
        let deadline = ContinuousClock.now + limit
        while ContinuousClock.now < deadline {
            do {
                for found in try await api.recentRuns() where titles[found.resourceId] != nil && seen[found.id]?.finishedAt == nil {
                    let run = try await api.run(found.id)
                    let title = titles[run.resourceId] ?? run.resourceId
                    if seen[run.id] == nil { tell(title, "run \(run.id)") }
                    seen[run.id] = run
                    for job in run.jobs ?? [] {
                        let news = Self.news(of: job)
                        guard said[job.id] != news else { continue }
                        said[job.id] = news
                        // What a job waits for is in the monitor; here it would only be noise.
                        if !["waiting", "ready", "dispatched"].contains(job.state) { tell(title, news) }
                    }
                }
            } catch let error as StackError where error.code == .unreachable {
                // The monitor may be restarted while we look; the runs go on without it.
            }
            let finished = Set(seen.values.filter { $0.finishedAt != nil }.map(\.resourceId))
            if expected(seen).isSubset(of: finished) { return seen.values.sorted { $0.id < $1.id } }
            try await Task.sleep(for: .milliseconds(200))
        }
        let open = seen.values.filter { $0.finishedAt == nil }.map { "\($0.id) is \($0.state)" }
        let missing = Set(titles.keys).subtracting(seen.values.map(\.resourceId)).count
        throw StackError(
            .timedOut,
            "Not all runs finished in \(limit.components.seconds) s: \(open.isEmpty ? "none is open" : open.joined(separator: ", ")); "
                + "\(missing) sent resources have no run. './dcm logs ingest' and './dcm logs router' tell more.",
        )
    }

    /// The resources that must have a run: those of the levels that this stack makes events of.
    ///
    /// Which levels these are is read off the runs that came; `study` until the first one.
    private func expected(_ seen: [String: MonitorAPI.Run]) -> Set<String> {
        let levels = Set(seen.values.map(\.level))
        var ids: Set<String> = []
        for patient in sample.patients {
            if levels.contains("patient") { ids.insert(patient.patient) }
            for study in patient.studies {
                if levels.isEmpty || levels.contains("study") { ids.insert(study.id) }
                if levels.contains("series") { ids.formUnion(study.series) }
            }
        }
        return ids
    }

    private static func news(of job: MonitorAPI.Job) -> String {
        let place = job.state == "running" ? job.worker.map { " on \($0)" } : nil
        let reason = ["succeeded", "running"].contains(job.state) ? nil : (job.error?.message ?? job.reason?.text).map { " (\($0))" }
        // Fetching packages may take a minute; of what jobs say beside that only the end counts here.
        let building = job.state == "running" ? job.progress?.text.flatMap { $0.contains("environment of ") ? ", \($0)" : nil } : nil
        return "\(job.name): \(job.state)\(place ?? "")\(building ?? "")\(reason ?? "")"
    }

    private func tell(_ title: String, _ text: String) {
        let time = String(repeating: " ", count: max(0, 8 - seconds(.now - started).count)) + seconds(.now - started)
        say("\(time)  \(title)  \(text)")
    }

    /// A short title for each resource that may get a run.
    private static func titles(_ sample: SampleStudies) -> [String: String] {
        var titles: [String: String] = [:]
        for patient in sample.patients {
            titles[patient.patient] = patient.label
            for study in patient.studies {
                titles[study.id] = study.title
                for (index, series) in study.series.enumerated() { titles[series] = "\(study.title), series \(index + 1)" }
            }
        }
        return titles
    }

    static func table(_ runs: [MonitorAPI.Run], sample: SampleStudies) -> String {
        let titles = titles(sample)
        var table = TextTable(["STUDY", "JOB", "STATE", "WAITED", "RAN", "WORKER"])
        for run in runs {
            table.add([titles[run.resourceId] ?? run.resourceId, "", run.state, "", span(run.createdAt, run.finishedAt), ""])
            for job in run.jobs ?? [] {
                table.add([
                    "", job.name, job.state, span(job.queuedAt, job.startedAt), span(job.startedAt, job.finishedAt), job.worker ?? "",
                ])
            }
        }
        return table.description
    }

    private static func span(_ start: Moment?, _ end: Moment?) -> String {
        guard let start, let end else { return "-" }
        return String(format: "%.3f s", end.date.timeIntervalSince(start.date))
    }
}
