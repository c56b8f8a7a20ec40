package import Jobs

/// One job of the pipeline, as its settings file describes it.
package struct CatalogEntry: Sendable, Hashable {
    /// What becomes of a job when a dependency is not accepted or does not succeed.
    package enum OnFailure: String, Sendable, Codable, CaseIterable {
        case skip
        case run
    }

    package var definition: JobDefinition
    /// The callback, `package.module.function`, found in the registry's folder; empty when nobody has to be asked (commands, and entries
    /// with a condition).
    package var callback: String
    /// What has to hold before the callback is asked, if there is one.
    package var when: TagCondition?
    /// Services and jobs that have to be installed; each once.
    package var requires: [String]
    /// Job names, each once, in the order of the file.
    package var dependsOn: [String]
    package var onFailure: OnFailure
    package var events: Set<ResourceLevel>
    /// Smaller comes first.
    package var sortPosition: Double
    package var description: String?
    package var isDisabled: Bool
    /// The registry's folder; `pipeline` for pre- and post-services, which stand in the pipeline's own settings.
    package var service: String
    /// Relative to the registry where it is inside it.
    package var file: String
    /// Position in the file (in its list of pre- or post-services).
    package var index: Int

    /// An entry of no file, which accepts every event.
    package static func accepting(_ definition: JobDefinition) -> CatalogEntry {
        CatalogEntry(
            definition: definition, callback: "", when: nil, requires: [], dependsOn: [], onFailure: .skip,
            events: Set(ResourceLevel.allCases),
            sortPosition: 0, description: nil, isDisabled: false, service: "", file: "", index: 0)
    }

    package var name: String { definition.name }
    package var stage: Stage { definition.stage }
    /// How people find it.
    var place: String { "\(file) (entry \(index + 1))" }
}

/// An entry that cannot run; `ServiceCatalog.problems` says why.
package struct BrokenEntry: Sendable, Hashable {
    /// nil when that is what is missing.
    package var name: String?
    package var stage: Stage
    package var service: String
    package var file: String
    package var index: Int
    /// Carries results out of the pipeline, or may do so: true for what nobody can read.
    package var isStoring: Bool

    /// How problems refer to the entry.
    package var label: String { name ?? "#\(index + 1)" }
}
