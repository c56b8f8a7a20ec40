import Jobs
import Orthanc

/// Reads from Orthanc what an event is made of.
struct ResourceReader: Sendable {
    let client: OrthancClient

    func snapshot(_ level: ResourceLevel, _ id: OrthancID) async throws -> ResourceSnapshot {
        switch level {
        case .series: try await series(id)
        case .study: try await study(id)
        case .patient: try await patient(id)
        }
    }

    /// Where Orthanc has the resource itself.
    func path(of level: ResourceLevel, _ id: OrthancID) -> String {
        switch level {
        case .series: "/series/\(id)"
        case .study: "/studies/\(id)"
        case .patient: "/patients/\(id)"
        }
    }

    /// Whether Orthanc has it. Throws whatever leaves that open.
    func exists(_ level: ResourceLevel, _ id: OrthancID) async throws -> Bool {
        do {
            switch level {
            case .series: _ = try await client.series(id)
            case .study: _ = try await client.study(id)
            case .patient: _ = try await client.patient(id)
            }
            return true
        } catch let error as OrthancError where error.code == .notFound {
            return false
        }
    }

    private func series(_ id: OrthancID) async throws -> ResourceSnapshot {
        let series = try await client.series(id)
        let study = try await client.study(series.study)
        return ResourceSnapshot(
            server: client.endpoint.name, level: .series, id: id, isStable: series.isStable, lastUpdate: series.lastUpdate ?? "",
            tags: series.tags, patient: study.patient,
            studies: [ResourceSnapshot.Study(id: study.id, tags: study.tags, series: [series])]
        )
    }

    private func study(_ id: OrthancID) async throws -> ResourceSnapshot {
        let study = try await client.study(id)
        let series = try await client.series(ofStudy: id)
        // A service that asks a patient's event for its PatientID finds it in a study's too.
        let tags = (study.patientTags?.object ?? [:]).merging(study.tags.object ?? [:]) { _, own in own }
        return ResourceSnapshot(
            server: client.endpoint.name, level: .study, id: id, isStable: study.isStable, lastUpdate: study.lastUpdate ?? "",
            tags: .object(tags), patient: study.patient,
            studies: [ResourceSnapshot.Study(id: id, tags: study.tags, series: series)]
        )
    }

    private func patient(_ id: OrthancID) async throws -> ResourceSnapshot {
        let patient = try await client.patient(id)
        var studies: [ResourceSnapshot.Study] = []
        for study in try await client.studies(ofPatient: id) {
            studies.append(ResourceSnapshot.Study(id: study.id, tags: study.tags, series: try await client.series(ofStudy: study.id)))
        }
        return ResourceSnapshot(
            server: client.endpoint.name, level: .patient, id: id, isStable: patient.isStable, lastUpdate: patient.lastUpdate ?? "",
            tags: patient.tags, patient: id, studies: studies
        )
    }

    /// The header of the first instance that the filter accepts, of the first, the middle and the last one; else of the first that can be
    /// read, with its refusal.
    ///
    /// - Parameter passesOverSilence: whether an instance over which Orthanc falls silent is passed over too, and not a failure of the whole.
    func sample(_ series: OrthancSeries, _ filter: IngestFilter, passesOverSilence: Bool) async throws -> SeriesSample {
        var first: SeriesSample?
        var lastError: OrthancError?
        for index in Set([0, series.instances.count / 2, series.instances.count - 1]).sorted()
        where series.instances.indices.contains(index) {
            do {
                let sample = try await sample(series, series.instances[index], filter)
                if sample.refusal == nil { return sample }
                first = first ?? sample
            } catch let error as OrthancError
                where [.serverFailure, .badResponse, .notFound].contains(error.code) || (passesOverSilence && error.code == .timedOut)
            {
                lastError = error
            }
        }
        if let first { return first }
        var empty = SeriesSample(series: series, tags: [:], fileMeta: [:], refusal: Reason("empty", "The series has no instances."))
        if let lastError {
            empty.refusal = Reason("unreadable", "Orthanc cannot read the images of the series; it is tried again later. \(lastError)")
            empty.error = lastError
        }
        return empty
    }

    private func sample(_ series: OrthancSeries, _ instance: OrthancID, _ filter: IngestFilter) async throws -> SeriesSample {
        let document = TagDocument(try await client.tags(ofInstance: instance))
        let fileMeta = try await client.fileMeta(ofInstance: instance)
        var sample = SeriesSample(series: series, tags: document.simplified(), fileMeta: fileMeta.object ?? [:])
        sample.refusal =
            document.isOwnResult ? IngestFilter.ownResult : filter.refusal(of: sample.header, instances: series.instances.count)
        return sample
    }
}
