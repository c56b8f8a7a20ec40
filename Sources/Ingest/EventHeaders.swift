import Jobs
import Orthanc

/// Shapes `headers` as upstream's services know them, without `dcmpath`, which the router adds.
enum EventHeaders {
    /// - Parameter accepted: the samples of the series that the event is about, by series id.
    static func make(_ snapshot: ResourceSnapshot, accepted: [OrthancID: SeriesSample]) -> JSONValue {
        switch snapshot.level {
        case .series: flat(snapshot, accepted)
        case .study, .patient: tree(snapshot, accepted)
        }
    }

    /// The tags of the first instance, and Orthanc's ids beside them.
    private static func flat(_ snapshot: ResourceSnapshot, _ accepted: [OrthancID: SeriesSample]) -> JSONValue {
        var members = accepted[snapshot.id]?.tags ?? [:]
        members["patientId"] = .string(snapshot.patient.rawValue)
        members["studyId"] = (snapshot.studies.first?.id.rawValue).map(JSONValue.string)
        members["seriesId"] = .string(snapshot.id.rawValue)
        return .object(members)
    }

    /// Patient or study, its studies, their accepted series. Studies of which no series was accepted are left out.
    private static func tree(_ snapshot: ResourceSnapshot, _ accepted: [OrthancID: SeriesSample]) -> JSONValue {
        var studies: [JSONValue] = []
        var studyIDs: [JSONValue] = []
        var seriesIDs: [JSONValue] = []
        for study in snapshot.studies {
            let samples = study.series.compactMap { accepted[$0.id] }
            if samples.isEmpty { continue }
            studyIDs.append(.string(study.id.rawValue))
            seriesIDs += samples.map { .string($0.series.id.rawValue) }
            studies.append([
                "id": .string(study.id.rawValue),
                "tags": study.tags,
                "series": .array(samples.map { ["id": .string($0.series.id.rawValue), "tags": .object($0.header)] }),
            ])
        }
        return [
            "id": .string(snapshot.id.rawValue),
            "tags": snapshot.tags,
            "studies": .array(studies),
            "studyIds": .array(studyIDs),
            "seriesIds": .array(seriesIDs),
        ]
    }
}
