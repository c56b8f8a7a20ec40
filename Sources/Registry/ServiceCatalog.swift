package import Foundation
package import Jobs

/// Everything that the settings files of a registry say, with what is wrong in them.
///
/// Reading never fails as a whole: a broken file or entry is a problem of its service, and the others go on. Pre-services are the
/// exception, because they may be what makes the data safe to process: when one of them cannot be read, `failure` is set and
/// every run fails closed.
package struct ServiceCatalog: Sendable, Hashable {
    package var pipeline: PipelineSettings
    package var defaults: CatalogDefaults
    /// What can be planned, disabled entries included, in planning order: by stage, then by sortPosition.
    package var entries: [CatalogEntry]
    package var brokenEntries: [BrokenEntry]
    package var problems: [ServiceProblem]
    /// Why no run may start any job.
    package var failure: Reason?
    /// What the files looked like when they were read.
    package var fingerprint: RegistryFingerprint

    /// Whether a run would be planned in another way.
    package func says(otherThan earlier: ServiceCatalog) -> Bool {
        (entries, brokenEntries) != (earlier.entries, earlier.brokenEntries) || pipeline != earlier.pipeline || failure != earlier.failure
    }

    /// Whether no run may start for a reason that may pass by itself in a moment: a file that is being copied by hand can be read half.
    package func failsForNow(at now: Date = Date()) -> Bool { failure != nil && fingerprint.mayBeInTheMaking(at: now) }

    /// In the folder of a service that a command has installed: what was installed. A JSON object; `hasSettings` says whether the folder had
    /// a settings.json.
    package static let installationRecord = ".dcm-service.json"

    /// Reads the pipeline's settings and every `<registry>/*/settings.json`.
    package static func load(registry: URL, settings: URL, defaults: CatalogDefaults = CatalogDefaults()) -> ServiceCatalog {
        CatalogLoader(registry: registry, settings: settings, defaults: defaults).load()
    }
}

/// One service as people see it: its jobs and its problems.
package struct CatalogService: Sendable, Hashable {
    /// The registry's folder, or `pipeline`.
    package var name: String
    /// Entries that can run.
    package var entries: [CatalogEntry]
    package var disabled: [CatalogEntry]
    package var problems: [ServiceProblem]

    package var jobs: [JobDefinition] { entries.map(\.definition) }
    package var hasErrors: Bool { problems.contains { $0.severity == .error } }
}

extension ServiceCatalog {
    /// The name under which the pre- and post-services of the pipeline's settings are listed.
    package static let pipelineService = "pipeline"

    /// Every folder with a settings file and the pipeline itself, sorted by name.
    package var services: [CatalogService] {
        let names = Set(entries.map(\.service) + brokenEntries.map(\.service) + problems.map(\.service))
        return names.sorted().map { name in
            let own = entries.filter { $0.service == name }
            return CatalogService(
                name: name,
                entries: own.filter { !$0.isDisabled },
                disabled: own.filter(\.isDisabled),
                problems: problems.filter { $0.service == name },
            )
        }
    }
}
