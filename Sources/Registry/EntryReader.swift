import Jobs

/// Reads one entry of a settings file. Collects every problem instead of stopping at the first.
struct EntryReader {
    /// That of the list in which the entry stands; nil for a service's folder, whose entries say it themselves.
    private let listStage: Stage?
    /// Of a broken entry whose stage cannot be read: the one in which losing it would do the most harm.
    private(set) var stage: Stage
    let service: String
    let file: String
    let index: Int
    let defaults: CatalogDefaults
    private(set) var problems: [ServiceProblem] = []
    private(set) var name: String?
    private var members: [String: JSONValue] = [:]

    /// - Parameter stage: of the pipeline's own list; nil for an entry of a service's folder.
    init(stage: Stage?, service: String, file: String, index: Int, defaults: CatalogDefaults) {
        listStage = stage
        self.stage = stage ?? .services
        self.service = service
        self.file = file
        self.index = index
        self.defaults = defaults
    }

    enum Outcome {
        case entry(CatalogEntry)
        /// Something is wrong that would make the job run otherwise than its author meant.
        case broken
        /// Disabled, and without a name that another entry could refer to.
        case nothing
    }

    mutating func read(_ value: JSONValue) -> Outcome {
        guard case .object(let members) = value else {
            report(
                "the entry is \(Self.shown(value)), not an object.",
                value: value,
                allowed: "an object such as {\"jobName\": \"count\", \"worker\": \"count.worker\", \"callback\": \"count.callback\"}",
            )
            return .broken
        }
        self.members = members.filter { $0.value != .null }
        reportUnknownKeys(members)

        let name = jobName()
        self.name = name
        stage = readStage()
        let command = command()
        let worker = dottedName("worker")
        let callback = dottedName("callback")
        let entry = CatalogEntry(
            definition: JobDefinition(
                name: name ?? "",
                service: Self.topFolder(of: worker) ?? service,
                stage: stage,
                kind: command == nil ? .python : .command,
                entry: worker ?? "",
                command: command ?? [],
                params: params(),
                channel: channel(),
                priority: priority(),
                timeout: timeout(),
                retry: retry(),
                isFinalizer: flag("finalizer"),
                isStoring: flag("storing"),
                onLeaseLoss: choice("onLeaseLoss", of: OnLeaseLoss.self) ?? .keep,
                resources: resources(),
                environment: environment(),
                preload: preload(),
            ),
            callback: callback ?? "",
            when: condition(),
            requires: names("requires", allowed: "the name of a service or a job, a list of them, or null for none"),
            dependsOn: names("dependsOn", allowed: "a jobName, a list of them, or null for none"),
            onFailure: choice("onFailure", of: CatalogEntry.OnFailure.self) ?? .skip,
            events: events(),
            sortPosition: sortPosition(),
            description: description(),
            isDisabled: disabled(),
            service: service,
            file: file,
            index: index,
        )
        if entry.isDisabled {
            // What is switched off can do no harm, so that its errors are no more than advice.
            for position in problems.indices { problems[position].severity = .warning }
            return name == nil ? .nothing : .entry(entry)
        }
        return problems.contains { $0.severity == .error } ? .broken : .entry(entry)
    }
}

// MARK: - Keys

extension EntryReader {
    /// A command needs no function of Python, and a condition no callback.
    private var required: [String] {
        ["jobName"] + (members["command"] == nil ? ["worker"] : [])
            + (members["command"] == nil && members["when"] == nil ? ["callback"] : [])
    }

    private mutating func reportUnknownKeys(_ members: [String: JSONValue]) {
        for (key, value) in members.sorted(by: { $0.key < $1.key }) {
            // That the right one is missing is an error with this key in it.
            if let meant = SettingsKeys.entry.nearest(to: key), required.contains(meant), self.members[meant] == nil { continue }
            switch SettingsKeys.entry.verdict(on: key) {
            case .known, .note: break
            case .unsupported where value == .null: break
            case .unsupported:
                report(
                    "this version does not support \(key), and running the job without it could be wrong.",
                    key: key,
                    value: value,
                    allowed: "leave it out",
                )
            case .misspelt(let nearest):
                report(
                    "there is no key \(key). It is so close to \(nearest) that running the job without it could be wrong.",
                    key: key,
                    value: value,
                    allowed: "the key \(nearest); a note to people starts with _ (_\(key))",
                    nearest: nearest,
                )
            case .unknown(let nearest):
                report("there is no key \(key), so it is ignored.", severity: .warning, key: key, value: value, nearest: nearest)
            }
        }
    }

    /// A required key that is not there; perhaps another one was meant to be it.
    private mutating func reportMissing(_ key: String, allowed: String) {
        let meant = members.keys.sorted().first { $0 != key && SettingsKeys.entry.nearest(to: $0) == key }
        report(
            "\(key) is missing\(meant.map { ", and there is no key \($0)" } ?? "").",
            key: meant ?? key,
            allowed: allowed,
            nearest: meant.map { _ in key },
        )
    }

    private mutating func jobName() -> String? {
        guard let value = members["jobName"] else {
            reportMissing("jobName", allowed: "a name that no other job has")
            return nil
        }
        let allowed = "1 to 128 characters, no control characters, no space at either end"
        guard let text = value.string, (1...128).contains(text.count), text.first != " ", text.last != " ",
            text.unicodeScalars.allSatisfy({ $0.value >= 0x20 && $0.value != 0x7f })
        else {
            report("\(Self.shown(value)) is not a job's name.", key: "jobName", value: value, allowed: allowed)
            return nil
        }
        guard text != RunPlanner.exportName else {
            report("\"\(text)\" is the built-in job that downloads the images.", key: "jobName", value: value, allowed: "any other name")
            return nil
        }
        return text
    }

    private mutating func dottedName(_ key: String) -> String? {
        let allowed = "folder.function or folder.module.function"
        guard let value = members[key] else {
            if required.contains(key) {
                reportMissing(key, allowed: key == "worker" ? "\(allowed); or the key command for a program that is not Python" : allowed)
            }
            return nil
        }
        let forbidden: Set<Character> = ["/", "\\", " ", "\t", "\n", "\r", "\0"]
        let parts = value.string?.split(separator: ".", omittingEmptySubsequences: false) ?? []
        guard let text = value.string, parts.count >= 2, parts.allSatisfy({ !$0.isEmpty }), !text.contains(where: forbidden.contains) else {
            report("\(Self.shown(value)) does not name a function.", key: key, value: value, allowed: allowed)
            return nil
        }
        return text
    }

    private mutating func readStage() -> Stage {
        // A nearly-right key has been reported: nobody knows what it was to say, and it may have been the stage that everything waits for.
        let isMisspelt = members.keys.contains { SettingsKeys.entry.verdict(on: $0) == .misspelt("stage") }
        guard let value = members["stage"] else { return listStage ?? (isMisspelt ? .pre : .services) }
        let names = ["pre": Stage.pre, "service": .services, "post": .post]
        guard let stage = value.string.flatMap({ names[$0] }) else {
            let text = value.string
            report(
                "\(Self.shown(value)) is not a stage.",
                key: "stage",
                value: value,
                allowed: "pre, service, post",
                nearest: text.flatMap { text in
                    ["services": "service", "preservice": "pre", "postservice": "post"][text.lowercased().filter(\.isLetter)]
                        ?? NearestName.of(text, among: names.keys.sorted())
                },
            )
            return listStage ?? .pre
        }
        if let listStage, stage != listStage {
            report(
                "the entry stands in the pipeline's list of \(listStage.title), and says that it is of another stage.",
                key: "stage",
                value: value,
                allowed: "leave it out, or move the entry",
            )
            return listStage
        }
        return stage
    }

    private mutating func params() -> JSONValue {
        guard let value = members["params"] else { return .null }
        if value.object == nil {
            report("params is \(Self.shown(value)), and is passed on as it is.", severity: .warning, key: "params", allowed: "an object")
        }
        return value
    }

    private mutating func channel() -> String {
        guard let value = members["channel"] else { return defaults.channel }
        guard let text = value.string, ChannelName.isValid(text) else {
            report(
                "\(Self.shown(value)) is not a channel's name.",
                key: "channel",
                value: value,
                allowed: "1 to 64 characters of a-z, 0-9, dash and underscore",
            )
            return defaults.channel
        }
        return text
    }

    private mutating func priority() -> Priority {
        guard let value = members["priority"] else { return defaults.priority }
        let level =
            switch value {
            case .string(let text): Priority(text)
            default: value.integer.flatMap { Priority(rawValue: Int($0)) }
            }
        guard let level else {
            let names = Priority.allCases.reversed().map(\.name)
            report(
                "\(Self.shown(value)) is not a priority.",
                key: "priority",
                value: value,
                allowed: names.joined(separator: ", ") + ", or 4 to 0",
                nearest: value.string.flatMap { NearestName.of($0, among: names) },
            )
            return defaults.priority
        }
        return level
    }

    private mutating func timeout() -> JobTimeout {
        guard let value = members["timeout"] else { return .standard }
        let timeout =
            switch value {
            case .string(let text): JobTimeout(text)
            default: value.integer.flatMap { JobTimeout(seconds: Int($0)) }
            }
        guard let timeout else {
            report(
                "\(Self.shown(value)) is not a duration.",
                key: "timeout",
                value: value,
                allowed: "1 second or more, as a number (90) or a text such as \"30s\", \"5m\", \"1h 30m\", \"2d\"; or -1 for no limit",
            )
            return .standard
        }
        return timeout
    }

    private mutating func names(_ key: String, allowed: String) -> [String] {
        guard let value = members[key] else { return [] }
        var names: [String] = []
        for element in value.array ?? [value] {
            guard let text = element.string, !text.isEmpty else {
                report("\(Self.shown(element)) is not a name.", key: key, value: element, allowed: allowed)
                continue
            }
            if !names.contains(text) { names.append(text) }
        }
        return names
    }

    private mutating func condition() -> TagCondition? {
        guard let value = members["when"] else { return nil }
        var mistakes: [TagCondition.Mistake] = []
        let condition = TagCondition.read(value, mistakes: &mistakes)
        for mistake in mistakes {
            report(
                mistake.message,
                severity: mistake.isError ? .error : .warning,
                key: mistake.path,
                value: mistake.value,
                allowed: mistake.allowed,
                nearest: mistake.nearest,
            )
        }
        return condition
    }

    private mutating func events() -> Set<ResourceLevel> {
        guard let value = members["events"] else { return Set(ResourceLevel.allCases) }
        let names = ResourceLevel.allCases.map(\.rawValue)
        let allowed = "a list of " + names.joined(separator: ", ")
        let elements: [JSONValue] =
            switch value {
            case .array(let list): list
            default: [value]
            }
        if elements.isEmpty {
            report(
                "events is empty, so the job would never run.",
                key: "events",
                value: value,
                allowed: allowed + "; leave it out for all of them",
            )
        }
        var levels: Set<ResourceLevel> = []
        for element in elements {
            // Later versions of the older DCM PROCESSOR write stable-study.
            let text = element.string.map { $0.hasPrefix("stable-") ? String($0.dropFirst(7)) : $0 }
            if let level = text.flatMap(ResourceLevel.init(rawValue:)) {
                levels.insert(level)
            } else {
                report(
                    "\(Self.shown(element)) is not an event.",
                    key: "events",
                    value: element,
                    allowed: allowed,
                    nearest: text.flatMap { NearestName.of($0, among: names) },
                )
            }
        }
        return levels
    }

    private mutating func sortPosition() -> Double {
        let standard: Double = stage == .services ? 999 : 1
        switch members["sortPosition"] {
        case nil: return standard
        case .integer(let position): return Double(position)
        case .number(let position): return position
        case .some(let value):
            report(
                "\(Self.shown(value)) is not a number.",
                key: "sortPosition",
                value: value,
                allowed: "a number, such as \(Int(standard))",
            )
            return standard
        }
    }

    private mutating func description() -> String? {
        guard let value = members["description"] else { return nil }
        if value.string == nil {
            report("\(Self.shown(value)) is not a text and is ignored.", severity: .warning, key: "description", allowed: "a text")
        }
        return value.string
    }

    private mutating func flag(_ key: String, default standard: Bool = false) -> Bool {
        guard let value = members[key] else { return standard }
        guard let isSet = value.bool else {
            report("\(Self.shown(value)) is neither true nor false.", key: key, value: value, allowed: "true, false")
            return standard
        }
        return isSet
    }

    /// Upstream takes any truthy value; 0 and 1 are the ones in use besides true and false.
    private mutating func disabled() -> Bool {
        switch members["disabled"] {
        case .integer(1): true
        case .integer(0): false
        default: flag("disabled")
        }
    }

    private mutating func choice<Choice>(_ key: String, of type: Choice.Type) -> Choice?
    where Choice: RawRepresentable<String> & CaseIterable {
        guard let value = members[key] else { return nil }
        guard let found = value.string.flatMap(Choice.init(rawValue:)) else {
            let names = Choice.allCases.map(\.rawValue)
            report(
                "\(Self.shown(value)) is not a choice of \(key).",
                key: key,
                value: value,
                allowed: names.joined(separator: ", "),
                nearest: value.string.flatMap { NearestName.of($0, among: names) },
            )
            return nil
        }
        return found
    }
}

// MARK: - Retry

extension EntryReader {
    private static let longestDelay = RetryDelay.oneHour.seconds

    private mutating func retry() -> RetryPolicy {
        guard let value = members["retry"] else { return .never }
        guard let object = value.object else {
            report(
                "\(Self.shown(value)) is not a retry policy.",
                key: "retry",
                value: value,
                allowed: "an object such as {\"max\": 3, \"delay\": \"30s\", \"backoff\": \"exponential\"}",
            )
            return .never
        }
        for key in object.keys.sorted() {
            guard case .unknown(let nearest) = SettingsKeys.retry.verdict(on: key) else { continue }
            report(
                "there is no key \(key) in retry, so it is ignored.",
                severity: .warning,
                key: "retry.\(key)",
                value: object[key],
                nearest: nearest,
            )
        }
        var policy = RetryPolicy()
        if let max = object["max"], max != .null {
            if let count = max.integer, (0...100).contains(count) {
                policy.max = Int(count)
            } else {
                report("\(Self.shown(max)) is not a number of retries.", key: "retry.max", value: max, allowed: "0 to 100")
            }
        } else {
            report("max is missing, so that nothing would be retried.", key: "retry.max", allowed: "0 to 100")
        }
        if let delay = object["delay"], delay != .null {
            let seconds = delay.integer.map(Int.init) ?? delay.string.flatMap { JobTimeout($0)?.seconds }
            if let seconds, (0...Self.longestDelay).contains(seconds) {
                policy.delay = seconds
            } else {
                report(
                    "\(Self.shown(delay)) is not a pause between attempts.",
                    key: "retry.delay",
                    value: delay,
                    allowed: "0 to \(Self.longestDelay) seconds, or a text such as \"30s\", \"5m\", \"1h\"",
                )
            }
        }
        if let backoff = object["backoff"], backoff != .null {
            if let found = backoff.string.flatMap(RetryPolicy.Backoff.init(rawValue:)) {
                policy.backoff = found
            } else {
                let names = RetryPolicy.Backoff.allCases.map(\.rawValue)
                report(
                    "\(Self.shown(backoff)) is not a way to lengthen the pause.",
                    key: "retry.backoff",
                    value: backoff,
                    allowed: names.joined(separator: ", "),
                    nearest: backoff.string.flatMap { NearestName.of($0, among: names) },
                )
            }
        }
        return policy
    }
}

// MARK: - Programs and what jobs need

extension EntryReader {
    private mutating func command() -> [String]? {
        guard let value = members["command"] else { return nil }
        guard members["worker"] == nil else {
            report(
                "the entry has a worker and a command, and one job is one of them.",
                key: "command",
                value: value,
                allowed: "worker for a Python function, or command for any other program",
            )
            return nil
        }
        let example = value.string.map(Self.words).flatMap { $0.isEmpty ? nil : $0 } ?? ["dcm2niix", "-z", "y"]
        let allowed = "a list of the program and its arguments, such as \(Self.shown(.array(example.map(JSONValue.string))))"
        let texts = value.array?.compactMap(\.string) ?? []
        guard let program = texts.first, !program.isEmpty, texts.count == value.array?.count, texts.count <= 256,
            !texts.contains(where: { $0.utf8.contains(0) })
        else {
            report("\(Self.shown(value)) is not a command.", key: "command", value: value, allowed: allowed)
            return []
        }
        guard program.hasPrefix("/") || !program.split(separator: "/").contains("..") else {
            report(
                "the program \"\(program)\" leads out of its service's folder.",
                key: "command",
                value: value,
                allowed: "a path below modules/\(service), an absolute path, or the name of a program in PATH",
            )
            return []
        }
        return texts
    }

    /// Nobody expands anything in a command, so that splitting a text at its spaces would promise more than it holds.
    private static func words(_ text: String) -> [String] { text.split(separator: " ").map(String.init) }

    /// Less can only be a number without its unit.
    private static let leastMemory: Int64 = 16 << 20
    private static let mostGPUs: Int64 = 64

    private mutating func resources() -> JobResources {
        guard let value = members["resources"] else { return .none }
        guard let object = value.object else {
            report(
                "\(Self.shown(value)) says nothing about resources.",
                key: "resources",
                value: value,
                allowed: "an object such as {\"memory\": \"4G\", \"gpus\": 1}",
            )
            return .none
        }
        for key in object.keys.sorted() {
            switch SettingsKeys.resources.verdict(on: key) {
            case .known, .note, .unsupported: break
            case .misspelt(let nearest):
                report(
                    "there is no key \(key) in resources. It is so close to \(nearest) that running the job without it could be wrong.",
                    key: "resources.\(key)",
                    value: object[key],
                    allowed: "the key \(nearest)",
                    nearest: nearest,
                )
            case .unknown(let nearest):
                report(
                    "there is no key \(key) in resources, so it is ignored.",
                    severity: .warning,
                    key: "resources.\(key)",
                    value: object[key],
                    nearest: nearest,
                )
            }
        }
        var resources = JobResources.none
        if let memory = object["memory"], memory != .null {
            let bytes = memory.integer ?? memory.string.flatMap(ByteCount.parse)
            if let bytes, bytes >= Self.leastMemory {
                resources.memory = bytes
            } else {
                report(
                    "\(Self.shown(memory)) is not an amount of memory that a job can run in.",
                    key: "resources.memory",
                    value: memory,
                    allowed: "\(ByteCount.text(Self.leastMemory)) or more, as a text such as \"512M\", \"4G\", \"1.5G\", or in bytes",
                )
            }
        }
        if let gpus = object["gpus"], gpus != .null {
            if let count = gpus.integer, (0...Self.mostGPUs).contains(count) {
                resources.gpus = Int(count)
            } else {
                report(
                    "\(Self.shown(gpus)) is not a number of GPUs.",
                    key: "resources.gpus",
                    value: gpus,
                    allowed: "0 to \(Self.mostGPUs)",
                )
            }
        }
        return resources
    }

    /// It becomes part of a path on the worker.
    private mutating func environment() -> String? {
        guard let value = members["environment"] else { return nil }
        let isAllowed: (Character) -> Bool = { $0.isASCII && ($0.isLetter || $0.isNumber || "-_.".contains($0)) }
        guard let text = value.string, (1...64).contains(text.count), text.allSatisfy(isAllowed), text.first != "." else {
            report(
                "\(Self.shown(value)) is not the name of an environment.",
                key: "environment",
                value: value,
                allowed: "1 to 64 characters of a-z, A-Z, 0-9, dot, dash and underscore, without a dot at the start",
            )
            return nil
        }
        return text
    }

    private mutating func preload() -> Bool {
        if let value = members["preload"], value.bool != nil, members["command"] != nil {
            report("preload means nothing to a command and is ignored.", severity: .warning, key: "preload", value: value)
        }
        return flag("preload", default: true)
    }
}

// MARK: - Reporting

extension EntryReader {
    private mutating func report(
        _ message: String,
        severity: ServiceProblem.Severity = .error,
        key: String? = nil,
        value: JSONValue? = nil,
        allowed: String? = nil,
        nearest: String? = nil,
    ) {
        problems.append(
            ServiceProblem(
                severity: severity,
                service: service,
                file: file,
                entry: members["jobName"]?.string ?? "#\(index + 1)",
                key: key,
                message: message,
                value: value.map(Self.shown),
                allowed: allowed,
                nearest: nearest,
            )
        )
    }

    /// A value as it stands in the file, shortened: settings may hold long texts.
    static func shown(_ value: JSONValue) -> String {
        let text = value.text
        return text.count <= 60 ? text : text.prefix(57) + "..."
    }

    /// The folder of `modules/` in which a function is looked for.
    private static func topFolder(of name: String?) -> String? {
        name?.split(separator: ".").first.map(String.init)
    }
}
