import Foundation
import Jobs

/// Reads the files of a registry once.
struct CatalogLoader {
    private let registry: URL
    private let settings: URL
    private let defaults: CatalogDefaults
    private var fingerprint: RegistryFingerprint
    private var pipeline = PipelineSettings()
    private var entries: [CatalogEntry] = []
    private var broken: [BrokenEntry] = []
    private var problems: [ServiceProblem] = []

    init(registry: URL, settings: URL, defaults: CatalogDefaults) {
        self.registry = registry
        self.settings = settings
        self.defaults = defaults
        // Before the files are opened: a change in between is then seen the next time.
        self.fingerprint = RegistryFingerprint(registry: registry, settings: settings)
    }

    consuming func load() -> ServiceCatalog {
        var failure = readPipeline()
        readServices()
        var check = CatalogCheck(entries: entries, broken: broken)
        check.rejectDuplicates()
        check.rejectMissingRequirements(services: RegistryFingerprint.folders(of: registry).filter(isService))
        check.rejectImpossibleDependencies()
        check.warnAboutUnavailableDependencies()
        problems += check.problems
        if failure == nil, let culprit = check.broken.first(where: { $0.stage == .pre }) {
            failure = Self.failClosed(
                culprit.name == nil && culprit.service != ServiceCatalog.pipelineService
                    ? "\(culprit.file), which may hold a pre-service, has an error"
                    : "the pre-service \(culprit.label) has an error in its settings", subject: culprit.name ?? culprit.file)
        }
        return ServiceCatalog(
            pipeline: pipeline,
            defaults: defaults,
            entries: Self.planningOrder(check.entries),
            brokenEntries: check.broken,
            problems: problems,
            failure: failure,
            fingerprint: fingerprint,
        )
    }

    /// Stage by stage, then by sortPosition. Entries come in the order of folders and files, which decides between equals.
    private static func planningOrder(_ entries: [CatalogEntry]) -> [CatalogEntry] {
        [Stage.pre, .services, .post].flatMap { stage in
            entries.enumerated()
                .filter { $0.element.stage == stage }
                .sorted { ($0.element.sortPosition, $0.offset) < ($1.element.sortPosition, $1.offset) }
                .map(\.element)
        }
    }
}

// MARK: - The pipeline's own settings

extension CatalogLoader {
    private static let pipelineKeys = SettingsKeys.pipeline.known
    private static let noneWanted = "{} in this file means \"no pre and post services\""

    /// - Returns: why every run has to fail closed, if so.
    private mutating func readPipeline() -> Reason? {
        let isOwn = settings.standardizedFileURL == registry.appending(path: "settings.json").standardizedFileURL
        let file = isOwn ? "settings.json" : settings.path
        do {
            _ = try FileManager.default.contentsOfDirectory(atPath: registry.path)
        } catch {
            // Without services every event would be declined in silence.
            report(
                ".",
                "the folder \(registry.path) cannot be listed, so no service is known.",
                allowed: "a folder that this process may read",
            )
            return Reason("settings-error", "the registry's folder cannot be listed, so no service is known.")
        }
        let members: [String: JSONValue]
        switch read(settings, as: file, service: ServiceCatalog.pipelineService, vital: SettingsKeys.pipeline.vital) {
        case .failure(let unreadable):
            // A file that is not there may as well have been lost, and the pre-services with it.
            fingerprint.distrust()
            report(file, unreadable.message, allowed: "an object with \(Self.pipelineKeys.joined(separator: ", ")); \(Self.noneWanted)")
            return Self.failClosed(
                "the pipeline's settings \(unreadable.isMissing ? "do not exist" : "cannot be read") (\(Self.noneWanted))",
                subject: file,
            )
        case .success(.object(let object)):
            members = object
        case .success(let other):
            report(
                file,
                "the file holds \(EntryReader.shown(other)), not an object.",
                allowed: "an object with \(Self.pipelineKeys.joined(separator: ", "))",
            )
            return Self.failClosed("the pipeline's settings are no object")
        }
        var failure = readUnknownKeys(members, file)
        if !readHeaderSettings(members, file) {
            failure = Self.failClosed("the pipeline's settings do not say clearly which tags may be passed on")
        }
        for (key, stage) in [("preServices", Stage.pre), ("postServices", .post)] {
            switch members[key] {
            case nil, .some(.null): break
            case .some(.array(let list)): readEntries(list, stage: stage, service: ServiceCatalog.pipelineService, file: file)
            case .some(.object(let one)): readEntries([.object(one)], stage: stage, service: ServiceCatalog.pipelineService, file: file)
            case .some(let other):
                report(file, "\(EntryReader.shown(other)) is not a list of jobs.", key: key, allowed: "a list of objects")
                if stage == .pre { failure = Self.failClosed("the list of pre-services cannot be read") }
                if stage == .post { addUnreadable(.post, service: ServiceCatalog.pipelineService, file: file) }
            }
        }
        return failure
    }

    /// - Returns: why every run has to fail closed, if so: what a misspelt key was to say is not known.
    private mutating func readUnknownKeys(_ members: [String: JSONValue], _ file: String) -> Reason? {
        var failure: Reason?
        for key in members.keys.sorted() {
            switch SettingsKeys.pipeline.verdict(on: key) {
            case .known, .note, .unsupported: break
            case .unknown(let nearest):
                problems.append(
                    ServiceProblem(
                        severity: .warning,
                        service: ServiceCatalog.pipelineService,
                        file: file,
                        key: key,
                        message: "there is no key \(key), so it is ignored.",
                        nearest: nearest,
                    )
                )
            case .misspelt(let nearest):
                report(
                    file,
                    "there is no key \(key). It is so close to \(nearest) that running anything without it could be wrong.",
                    key: key,
                    allowed: Self.pipelineKeys.joined(separator: ", ") + "; a note to people starts with _ (_\(key))",
                    nearest: nearest,
                )
                if nearest == "postServices" {
                    addUnreadable(.post, service: ServiceCatalog.pipelineService, file: file)
                } else {
                    failure = Self.failClosed("a key of the pipeline's settings is nearly, but not quite, \(nearest)", subject: file)
                }
            }
        }
        return failure
    }

    /// - Returns: false when a value is not what it should be.
    private mutating func readHeaderSettings(_ members: [String: JSONValue], _ file: String) -> Bool {
        let before = problems.count
        var fields: [String]?
        switch members["headerFields"] {
        case nil, .some(.null): break
        case .some(.array(let list)) where list.allSatisfy({ $0.string != nil }): fields = list.compactMap(\.string)
        case .some(let other):
            report(file, "\(EntryReader.shown(other)) is not a list of tag names.", key: "headerFields", allowed: "a list of texts")
        }
        switch members["fullTags"] {
        // Only who names the tags to keep wants the others dropped.
        case nil, .some(.null): pipeline = PipelineSettings(headerFields: fields ?? [], fullTags: fields == nil)
        case .some(.bool(let isFull)): pipeline = PipelineSettings(headerFields: fields ?? [], fullTags: isFull)
        case .some(let other):
            report(file, "\(EntryReader.shown(other)) is neither true nor false.", key: "fullTags", allowed: "true, false")
        }
        return problems.count == before
    }

    private static func failClosed(_ cause: String, subject: String? = nil) -> Reason {
        Reason("settings-error", "\(cause), and data that a pre-service has not prepared must not be processed.", subject: subject)
    }

    private mutating func report(_ file: String, _ message: String, key: String? = nil, allowed: String, nearest: String? = nil) {
        problems.append(
            ServiceProblem(
                severity: .error,
                service: ServiceCatalog.pipelineService,
                file: file,
                key: key,
                message: message,
                allowed: allowed,
                nearest: nearest,
            )
        )
    }
}

// MARK: - Services

extension CatalogLoader {
    private static let holdsFinalizers = " Until this is mended, finalizers are held back: a job of this file may be storing."
    private static let holdsEverything =
        " Until this is mended, every run fails: a job of this file may be a pre-service, without which nothing may run."

    private mutating func readServices() {
        for folder in RegistryFingerprint.folders(of: registry) {
            let url = registry.appending(path: folder).appending(path: "settings.json")
            let file = "\(folder)/settings.json"
            switch read(url, as: file, service: folder, vital: []) {
            case .failure(let unreadable) where unreadable.isMissing && !isDeadLink(folder) && !isDeadLink(file):
                // A package that services share, for example.
                guard hadSettings(folder) else { continue }
                problems.append(
                    ServiceProblem(
                        severity: .error,
                        service: folder,
                        file: file,
                        message: "the service was installed with this file, and it is gone." + Self.holdsEverything,
                        allowed: "the file; or 'dcm service remove \(folder)'",
                    )
                )
                addUnreadable(.pre, service: folder, file: file)
            case .failure(let unreadable):
                fingerprint.distrust()
                problems.append(
                    ServiceProblem(
                        severity: .error,
                        service: folder,
                        file: file,
                        message: (unreadable.isMissing ? "a link leads nowhere." : unreadable.message)
                            + (unreadable.mayHoldPreService ? Self.holdsEverything : Self.holdsFinalizers),
                    )
                )
                addUnreadable(unreadable.mayHoldPreService ? .pre : .services, service: folder, file: file)
            case .success(.array(let list)):
                if list.isEmpty {
                    problems.append(
                        ServiceProblem(
                            severity: .warning,
                            service: folder,
                            file: file,
                            message: "the list is empty: the service has no job.",
                        )
                    )
                }
                readEntries(list, stage: nil, service: folder, file: file)
            case .success(.object(let one)):
                readEntries([.object(one)], stage: nil, service: folder, file: file)
            case .success(let other):
                problems.append(
                    ServiceProblem(
                        severity: .error,
                        service: folder,
                        file: file,
                        message: "the file holds \(EntryReader.shown(other)), not a job." + Self.holdsFinalizers,
                        allowed: "an object with jobName, worker and callback, or a list of such objects",
                    )
                )
                addUnreadable(.services, service: folder, file: file)
            }
        }
    }

    private func isService(_ folder: String) -> Bool {
        FileManager.default.fileExists(atPath: registry.appending(path: folder).appending(path: "settings.json").path)
    }

    /// Whether a command has installed `folder` with settings: a pre-service that has lost them must not go in silence.
    private func hadSettings(_ folder: String) -> Bool {
        let record = registry.appending(path: folder).appending(path: ServiceCatalog.installationRecord)
        return (try? JSONValue(json: Data(contentsOf: record)))?["hasSettings"] == true
    }

    /// Whether something stands at `path` in the registry that leads nowhere: meant to be read, other than a file that is not there.
    private func isDeadLink(_ path: String) -> Bool {
        let path = registry.appending(path: path).path
        return !FileManager.default.fileExists(atPath: path) && (try? FileManager.default.attributesOfItem(atPath: path)) != nil
    }

    /// What nobody could read may have been a storing job, behind whose back a finalizer must not delete anything.
    private mutating func addUnreadable(_ stage: Stage, service: String, file: String) {
        broken.append(BrokenEntry(name: nil, stage: stage, service: service, file: file, index: 0, isStoring: true))
    }

    /// Whether an entry that cannot run may have been meant to store: only a clear no is a no.
    private static func mayStore(_ value: JSONValue) -> Bool {
        guard case .object(let members) = value else { return true }
        return members.contains { key, value in
            guard key == "storing" || SettingsKeys.entry.verdict(on: key) == .misspelt("storing") else { return false }
            return value != .null && value != false
        }
    }

    /// A callback may live in an installed package too, so that this is only a warning.
    private mutating func checkCallbackFolder(of entry: CatalogEntry) {
        let top = entry.callback.prefix { $0 != "." }
        guard ![top, top + ".py"].contains(where: { FileManager.default.fileExists(atPath: registry.appending(path: $0).path) }) else {
            return
        }
        problems.append(
            ServiceProblem(
                severity: .warning,
                service: entry.service,
                file: entry.file,
                entry: entry.name,
                key: "callback",
                message: "the registry has no folder \(top), in which the callback would be looked for.",
                value: JSONValue.string(entry.callback).text,
                allowed: "folder.function or folder.module.function",
                nearest: NearestName.of(String(top), among: RegistryFingerprint.folders(of: registry)),
            )
        )
    }

    /// Reads a file and tells of the keys that stand in it twice. The file cannot be trusted when that is one of `vital`, or one that makes
    /// a job another job.
    private mutating func read(
        _ url: URL, as file: String, service: String, vital: Set<String>,
    ) -> Result<JSONValue, SettingsFile.Unreadable> {
        SettingsFile.read(url).flatMap { content in
            for repeated in content.repeatedKeys {
                let place = "stands twice in one object, at line \(repeated.firstLine) and line \(repeated.line)"
                if repeated.isInCondition || vital.union(SettingsKeys.entry.vital).contains(repeated.key) {
                    return .failure(
                        .init(
                            message: "\(repeated.key) \(place), and programs differ in which one they take.",
                            mayHoldPreService: content.mayHoldPreService))
                }
                problems.append(
                    ServiceProblem(
                        severity: .warning,
                        service: service,
                        file: file,
                        key: repeated.key,
                        message: "\(repeated.key) \(place); which one counts is not certain.",
                    )
                )
            }
            return .success(content.value)
        }
    }

    /// - Parameter stage: nil for a service's folder, whose entries say it themselves.
    private mutating func readEntries(_ list: [JSONValue], stage: Stage?, service: String, file: String) {
        for (index, value) in list.enumerated() {
            var reader = EntryReader(stage: stage, service: service, file: file, index: index, defaults: defaults)
            switch reader.read(value) {
            case .entry(let entry):
                entries.append(entry)
                if !entry.isDisabled, !entry.callback.isEmpty { checkCallbackFolder(of: entry) }
            case .broken:
                broken.append(
                    BrokenEntry(
                        name: reader.name,
                        stage: reader.stage,
                        service: service,
                        file: file,
                        index: index,
                        isStoring: Self.mayStore(value),
                    )
                )
            case .nothing: break
            }
            problems += reader.problems
        }
    }
}
