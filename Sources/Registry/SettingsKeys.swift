import Jobs

/// What to say about the keys of a settings file that are none of ours.
///
/// Most of them do no harm, and a service has to go on when its author adds a note: they are warnings. Nearly-right spellings of a key that
/// decides whether a job runs, behind what, on what, or what may be deleted are errors: the file then says something other than the pipeline
/// would do, and the job that runs too early, or the cleaning up that nothing holds back, cannot be taken back.
struct SettingsKeys {
    enum Verdict: Equatable {
        case known
        /// Somebody's note to people.
        case note
        /// Means something to a later version. Running the job without it could be wrong.
        case unsupported
        /// Nearly, or in other words, a key without which the job is another job.
        case misspelt(String)
        case unknown(nearest: String?)
    }

    let known: [String]
    /// Keys of which a misspelling is an error.
    let vital: Set<String>
    var unsupported: [String] = []
    /// Other words, in small letters, that can hardly mean anything else. They count as misspellings.
    var synonyms: [String: String] = [:]
    /// Other words, in small letters, that may as well be somebody's note.
    var hints: [String: String] = [:]

    static let entry = SettingsKeys(
        known: [
            "jobName", "worker", "callback", "dependsOn", "priority", "channel", "timeout", "params", "sortPosition", "description",
            "disabled", "events", "retry", "finalizer", "storing", "onFailure", "onLeaseLoss", "command", "resources", "environment",
            "preload", "stage", "when", "requires",
        ],
        vital: [
            "jobName", "worker", "callback", "dependsOn", "params", "disabled", "events", "finalizer", "storing", "onFailure",
            "onLeaseLoss", "command", "resources", "environment", "preload", "stage", "when", "requires",
        ],
        synonyms: [
            "depends": "dependsOn", "dependency": "dependsOn", "dependencies": "dependsOn", "enabled": "disabled", "onfail": "onFailure",
            "onerror": "onFailure", "allowfailure": "onFailure", "env": "environment", "venv": "environment",
            "interpreter": "environment", "condition": "when", "conditions": "when", "require": "requires", "cmd": "command",
            "program": "command", "executable": "command", "memory": "resources", "gpu": "resources", "gpus": "resources",
            "limits": "resources", "phase": "stage",
        ],
        hints: [
            "name": "jobName", "job": "jobName", "function": "worker", "workerentry": "worker", "registryentry": "callback",
            "after": "dependsOn", "needs": "dependsOn", "parameters": "params", "args": "params", "kwargs": "params", "event": "events",
            "level": "events", "levels": "events", "cleanup": "finalizer", "cleaner": "finalizer", "finally": "finalizer",
            "final": "finalizer", "stores": "storing", "storage": "storing", "store": "storing", "retries": "retry", "attempts": "retry",
            "maxretries": "retry", "queue": "channel", "pool": "channel", "timelimit": "timeout", "position": "sortPosition",
            "order": "sortPosition", "comment": "description", "comments": "description", "notes": "description", "title": "description",
        ],
    )

    static let retry = SettingsKeys(
        known: ["max", "delay", "backoff"],
        vital: [],
        hints: ["count": "max", "times": "max", "retries": "max", "attempts": "max", "pause": "delay", "wait": "delay", "seconds": "delay"],
    )

    static let resources = SettingsKeys(
        known: ["memory", "gpus"],
        vital: ["memory", "gpus"],
        synonyms: ["gpu": "gpus", "mem": "memory", "ram": "memory", "devices": "gpus"],
    )

    /// Pre-services may be what makes data safe to process, and the tags that are passed on may be what identifies a person.
    static let pipeline = SettingsKeys(
        known: ["preServices", "postServices", "headerFields", "fullTags"],
        vital: ["preServices", "postServices", "headerFields", "fullTags"],
        hints: ["pre": "preServices", "post": "postServices", "tags": "headerFields", "headers": "headerFields"],
    )

    func verdict(on key: String) -> Verdict {
        if known.contains(key) { return .known }
        if unsupported.contains(key) { return .unsupported }
        // What JSON offers in place of comments.
        if key.isEmpty || key.hasPrefix("_") || key.hasPrefix("$") || key.hasPrefix("//") || key.hasPrefix("#") { return .note }
        if let hint = hints[key.lowercased()] { return .unknown(nearest: hint) }
        guard let nearest = nearest(to: key) else { return .unknown(nearest: nil) }
        return vital.contains(nearest) || unsupported.contains(nearest) ? .misspelt(nearest) : .unknown(nearest: nearest)
    }

    /// The key that `key` was probably meant to be.
    func nearest(to key: String) -> String? {
        let word = key.lowercased()
        return synonyms[word] ?? hints[word] ?? NearestName.of(key, among: known + unsupported)
    }
}
