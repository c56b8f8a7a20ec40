import Bootstrap
import Jobs
import Orthanc

extension IngestConfiguration {
    /// | variable | type, default | meaning |
    /// |---|---|---|
    /// | `EVENTS` | `series`, `study`, `patient`; `study` | the levels that make events |
    /// | `START` | `now` or `all`; `now` | what the first start does with what Orthanc has already |
    /// | `REPEAT` | `changed`, `all` or `ignore`; `changed` | what late images of a resource that has had its event do |
    /// | `SUBMIT_RATE` | 0.01-1000; 10 | resources per second when many are submitted |
    /// | `POLL_INTERVAL` | seconds, 0.05-3600; 1 | pause between looks at the change log |
    /// | `SWEEP_INTERVAL` | seconds, 1-86400; 300 | pause between sweeps for what the change log never said |
    /// | `ORTHANC_STABLE_AGE` | seconds, 1-86400; 60 | Orthanc's StableAge |
    /// | `SUPPORTED_MODALITY` | list; every one | part of the modality |
    /// | `ACCEPTED_FILES` | list; every one | part of the image type |
    /// | `JUNK_FILES` | list; none | not part of the image type |
    /// | `INSTANCE_REQUIRED_TAGS` | list of tag names; none | must be present |
    /// | `MINIMUM_INSTANCES` | 0-1000000; 0 | fewer instances: refused |
    init(settings: Settings) throws {
        self.init()
        let names = settings.list("EVENTS", default: ["study"])
        levels = try names.reduce(into: []) { levels, name in
            guard let level = ResourceLevel(rawValue: name.lowercased()) else {
                throw SettingError(variable: "EVENTS", value: name, allowed: "a list of series, study and patient")
            }
            if !levels.contains(level) { levels.append(level) }
        }
        if let text = settings.text("START") {
            guard let start = Start(rawValue: text.lowercased()) else {
                throw SettingError(variable: "START", value: text, allowed: "now or all")
            }
            self.start = start
        }
        if let text = settings.text("REPEAT") {
            guard let repeats = Repeats(rawValue: text.lowercased()) else {
                throw SettingError(variable: "REPEAT", value: text, allowed: "changed, all or ignore")
            }
            self.repeats = repeats
        }
        submitRate = try settings.seconds("SUBMIT_RATE", default: 10, in: 0.01...1000)
        pollInterval = .seconds(try settings.seconds("POLL_INTERVAL", default: 1, in: 0.05...3600))
        sweepInterval = .seconds(try settings.seconds("SWEEP_INTERVAL", default: 300, in: 1...86400))
        stableAge = try settings.integer("ORTHANC_STABLE_AGE", default: 60, in: 1...86400)
        filter = IngestFilter(
            modalities: settings.commaList("SUPPORTED_MODALITY"),
            acceptedTypes: settings.commaList("ACCEPTED_FILES"),
            junkTypes: settings.commaList("JUNK_FILES"),
            requiredTags: settings.commaList("INSTANCE_REQUIRED_TAGS"),
            minimumInstances: try settings.integer("MINIMUM_INSTANCES", default: 0, in: 0...1_000_000)
        )
    }
}

extension Settings {
    /// Upstream's lists: commas only, because a part of an image type may hold spaces.
    fileprivate func commaList(_ name: String) -> [String] {
        (text(name) ?? "").split(separator: ",").map { String($0).trimmed }.filter { !$0.isEmpty }
    }
}

extension OrthancServers {
    /// `ORTHANC_URLS`, or `ORTHANC_REST_URL` with `ORTHANC_REST_USERNAME` and `ORTHANC_REST_PASSWORD`.
    init(settings: Settings) throws {
        do {
            try self.init { settings.text($0, isSecret: true) }
        } catch let error as Invalid {
            // The value may hold a password.
            throw SettingError(variable: error.variable, value: nil, allowed: error.allowed)
        }
    }
}
