package import Jobs

/// What the pipeline's own settings file says besides its pre- and post-services.
package struct PipelineSettings: Sendable, Hashable {
    /// The tags that callbacks and jobs get to see when `fullTags` is false.
    package var headerFields: [String]
    package var fullTags: Bool

    package init(headerFields: [String] = [], fullTags: Bool = true) {
        self.headerFields = headerFields
        self.fullTags = fullTags
    }

    /// Upstream's headers with the tags reduced to `headerFields`, unless all of them are wanted. Ids, paths and the tree
    /// of studies and series stay: without them no job finds its images.
    package func filtered(_ headers: JSONValue, level: ResourceLevel) -> JSONValue {
        guard !fullTags else { return headers }
        switch level {
        case .series: return kept(of: headers, always: ["patientId", "studyId", "seriesId", "dcmpath"])
        case .study, .patient: return filteringTags(headers)
        }
    }

    private func kept(of tags: JSONValue, always: Set<String> = []) -> JSONValue {
        guard let members = tags.object else { return tags }
        let wanted = always.union(headerFields)
        return .object(members.filter { wanted.contains($0.key) })
    }

    private func filteringTags(_ node: JSONValue) -> JSONValue {
        guard var members = node.object else { return node }
        if let tags = members["tags"] { members["tags"] = kept(of: tags) }
        for key in ["studies", "series"] {
            guard let children = members[key]?.array else { continue }
            members[key] = .array(children.map(filteringTags))
        }
        return .object(members)
    }
}
