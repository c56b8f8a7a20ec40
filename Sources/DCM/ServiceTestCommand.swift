import ArgumentParser
import Foundation
import Jobs
import Logging
import Orthanc
import Registry
import Stack
import Synchronization
import Workbench

/// Runs a service on one study, with its log in the terminal and without a queue.
struct ServiceTestCommand: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "test",
        abstract: "Runs a service's callback and worker on one study, here and now.",
        discussion: """
            The study is a folder of DICOM files, or an Orthanc id in the stack's Orthanc. Nothing is queued, and nothing of the stack's data is \
            touched: images are copied to a private folder, which goes with the command. Of a study in Orthanc, series that this system has \
            stored are left out. Services do not learn where Orthanc is, unless --with-orthanc says so. Ends with status 1 when a callback or a job fails. The filters of ingest are not applied.
            """,
    )

    @Argument(help: "The service, or one of its jobs.")
    var name: String

    @Argument(help: "A folder of DICOM files, or an id of Orthanc.")
    var study: String

    @OptionGroup var options: BenchOptions

    @Option(
        help: ArgumentHelp(
            "The event: study, series or patient (default: the first of these that the service handles).", valueName: "LEVEL"))
    var level: ResourceLevel?

    @Option(help: ArgumentHelp("Which series of a folder, by its id in Orthanc; with --level series.", valueName: "ID"))
    var series: String?

    @Flag(help: "Runs the jobs of dependsOn before, in the same private folder.")
    var withDependencies = false

    @Flag(help: "Lets the service reach the stack's Orthanc: what it stores is stored.")
    var withOrthanc = false

    @Flag(help: "Keeps the private folder, and says where it is.")
    var keep = false

    func run() async throws {
        let folder = try BenchOptions.privateFolder(keep: keep)
        let isKept = keep
        defer {
            if isKept { say("\nKept: \(folder.path) (data/, logs/)") } else { FileSystem.remove(folder) }
        }
        let (bench, settings) = try options.bench(in: folder, withOrthanc: withOrthanc)
        let catalog = ServiceCatalog.load(registry: bench.registry, settings: settings)
        let report = CatalogReport(catalog, of: name)
        let entries = ServiceTrial.entries(of: name, in: catalog, dependencies: withDependencies)
        guard !entries.isEmpty else {
            guard report.isEmpty else { throw StackError(.badSetting, "\(name) has no job that could run.\n\(report.text)") }
            let known = catalog.services.map(\.name).joined(separator: ", ")
            throw StackError(
                .notFound, "There is no service or job \(name) in \(options.place(bench)): \(known.isEmpty ? "none at all" : known).")
        }
        let images = try await read(entries, on: bench)
        say("\(name) on \(Self.title(of: images))")
        let narrator = TrialNarrator()
        let result = try await ServiceTrial(bench: bench, catalog: catalog) { narrator.tell($0) }.run(entries, on: images)
        if result.outcomes.isEmpty, result.isGood { say("\nNo job is wanted for this \(images.level.rawValue).") }
        if !result.isGood { throw ExitCode.failure }
    }

    /// `a study of 3 series, 120 images (2 other files)`
    private static func title(of study: TrialStudy) -> String {
        let level = study.level == .series ? "a series" : "a \(study.level.rawValue) of \(study.instances.count) series"
        let others = study.skipped > 0 ? " (\(study.skipped) other file\(study.skipped == 1 ? "" : "s"))" : ""
        return "\(level), \(study.images) image\(study.images == 1 ? "" : "s")\(others)"
    }

    private func read(_ entries: [CatalogEntry], on bench: Bench) async throws -> TrialStudy {
        let handled = [ResourceLevel.study, .series, .patient].first { level in entries.contains { $0.events.contains(level) } }
        let isID = study.split(separator: "-").map(\.count) == [8, 8, 8, 8, 8] && study.allSatisfy { $0.isHexDigit || $0 == "-" }
        guard isID, !FileSystem.exists(ServiceOptions.url(study)) else {
            return try await TrialStudy.read(ServiceOptions.url(study), level: level ?? handled ?? .study, series: series, on: bench)
        }
        let endpoints = try options.stackEndpoints()
        let client = OrthancClient(
            endpoint: try OrthancEndpoint(url: endpoints.orthanc, user: endpoints.orthancUser, password: endpoints.orthancPassword))
        let (level, found) = try await find(client)
        let members = try await images(of: found, client)
        let images = bench.folder.appending(path: "images", directoryHint: .isDirectory)
        _ = try await InstanceExport(client: client, logger: bench.logger).run(
            level: level, resourceID: study, series: members.map(\.id.rawValue), into: "images", of: bench.folder)
        return try await TrialStudy.read(images, level: level, order: members.flatMap { $0.instances.map(\.rawValue) }, on: bench)
    }

    /// The series without those that this system has stored: ingest makes no event of them either.
    private func images(of found: [OrthancSeries], _ client: OrthancClient) async throws -> [OrthancSeries] {
        var images: [OrthancSeries] = []
        for series in found {
            guard let instance = series.instances.first else { continue }
            if !TagDocument(try await client.tags(ofInstance: instance)).isOwnResult { images.append(series) }
        }
        let results = found.count { !$0.instances.isEmpty } - images.count
        guard !images.isEmpty || results == 0 else {
            throw StackError(
                .badSetting,
                "\(study) holds results of this system alone (\(results) series), which services are not asked about. Name the study that they "
                    + "were made of; a folder of files is taken as it is.")
        }
        if results > 0 { say("Left out: \(results) series that this system has stored") }
        return images
    }

    /// What Orthanc has under the id: of the level that was asked for, else of any.
    private func find(_ client: OrthancClient) async throws -> (ResourceLevel, [OrthancSeries]) {
        let id = try client.identifier(study)
        for level in level.map({ [$0] }) ?? [.study, .series, .patient] {
            do {
                // The resource itself first: of another level's id Orthanc says only that it has no children.
                switch level {
                case .study: return (level, try await client.series(ofStudy: try await client.study(id).id))
                case .series: return (level, [try await client.series(id)])
                case .patient: return (level, try await client.series(ofPatient: try await client.patient(id).id))
                }
            } catch let error as OrthancError where error.code == .notFound {
                continue
            }
        }
        throw StackError(.notFound, "The stack's Orthanc has no \(level?.rawValue ?? "study, series or patient") \(study).")
    }
}

extension ResourceLevel: ExpressibleByArgument {}

/// Tells a person what a trial does, as it does it.
private final class TrialNarrator: Sendable {
    private let lastProgress = Mutex("")

    func tell(_ event: ServiceTrial.Event) {
        switch event {
        case .decided(let decision, let added):
            let time = decision.duration.map { " (\(Self.seconds($0)))" } ?? ""
            say("\n\(decision.job): \(decision.verdict.rawValue). \(decision.reason.text)\(time)")
            if let added, added != [:] { say("  added_params: \(added.text)") }
            if let output = decision.output { say(Self.indented(output)) }
        case .without(let job, let names):
            say("\n\(job): depends on \(names.joined(separator: ", ")), not run here; --with-dependencies runs what it depends on first.")
        case .started(let job):
            say("\n\(job.name): runs \(job.kind == .command ? job.command.joined(separator: " ") : job.entry)")
        case .progress(let fraction, let text):
            let line = "  \(fraction > 0 ? "\(Int(fraction * 100)) % " : "")\(text ?? "")"
            let isNews = lastProgress.withLock { last in
                defer { last = line }
                return last != line
            }
            if isNews { say(line) }
        case .log(let text): say(Self.indented(text))
        case .ended(let outcome): tell(outcome)
        }
    }

    private func tell(_ outcome: ServiceTrial.Outcome) {
        let exit = outcome.exit
        var details = [Self.seconds(exit.finishedAt.timeIntervalSince(exit.startedAt))]
        if let usage = exit.usage {
            details.append("processor \(Self.seconds(usage.user + usage.system))")
            details.append("peak memory \(usage.peakMemory >> 20) MiB")
        }
        say("\(outcome.job.name): \(exit.outcome.rawValue) (\(exit.kind.rawValue); \(details.joined(separator: ", ")))")
        if let failure = exit.failure { say("  \(failure.type): \(failure.message)") }
        if let result = exit.result, result != .null { say("  result: \(result.text)") }
        for artifact in exit.artifacts { say("  artifact: \(artifact.name): \(artifact.path) (\(artifact.kind))") }
        Self.list("made", outcome.made)
        Self.list("changed", outcome.changed)
        Self.list("removed", outcome.removed)
    }

    private static func list(_ what: String, _ names: [String]) {
        let most = 20
        for name in names.prefix(most) { say("  \(what): \(name)") }
        if names.count > most { say("  \(what): \(names.count - most) more files") }
    }

    private static func indented(_ text: String) -> String {
        text.split(separator: "\n", omittingEmptySubsequences: false).reversed().drop { $0.isEmpty }.reversed().map { "  | \($0)" }
            .joined(separator: "\n")
    }

    private static func seconds(_ time: Double) -> String { String(format: "%.2f s", time) }
}
