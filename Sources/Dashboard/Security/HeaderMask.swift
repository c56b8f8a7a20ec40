import Jobs

/// DICOM headers with what identifies a person hidden: names, numbers, dates of birth, addresses, free text about a patient.
///
/// Errs towards hiding: every name of a person, everything that begins with `Patient` but says nothing of who it is.
enum HeaderMask {
    static let mask = "hidden"

    static func masked(_ headers: JSONValue) -> JSONValue {
        switch headers {
        case .object(let members):
            .object(
                Dictionary(
                    uniqueKeysWithValues: members.map { key, value in
                        (key, identifies(key) && !isEmpty(value) ? .string(mask) : masked(value))
                    }))
        case .array(let elements): .array(elements.map(masked))
        case .null, .bool, .integer, .number, .string: headers
        }
    }

    /// - Parameter key: a DICOM keyword (`PatientName`) or a tag (`0010,0010`).
    static func identifies(_ key: String) -> Bool {
        let tag = key.lowercased().filter(\.isHexDigit)
        if tag.hasPrefix("0010"), tag.count == 8 { return true }
        if harmless.contains(key) { return false }
        if keywords.contains(key) { return true }
        if key.hasPrefix("Patient") || key.hasPrefix("OtherPatient") { return true }
        return fragments.contains { key.contains($0) }
    }

    private static func isEmpty(_ value: JSONValue) -> Bool {
        switch value {
        case .null, .string(""), .array([]), .object([:]): true
        default: false
        }
    }

    private static let harmless: Set<String> = [
        "PatientSex", "PatientAge", "PatientSize", "PatientWeight", "PatientPosition", "PatientOrientation", "PatientIdentityRemoved",
        "PatientSupportAngle", "PatientGantryRelationshipCodeSequence", "PatientOrientationCodeSequence",
    ]
    private static let keywords: Set<String> = [
        "AccessionNumber", "AdmissionID", "AdditionalPatientHistory", "CountryOfResidence", "CurrentPatientLocation", "EthnicGroup",
        "FillerOrderNumberImagingServiceRequest", "ImageComments", "InstitutionAddress", "InstitutionName", "InstitutionalDepartmentName",
        "IssuerOfPatientID", "MedicalRecordLocator", "MilitaryRank", "Occupation", "OperatorsName", "PerformedProcedureStepID",
        "PersonName", "PlacerOrderNumberImagingServiceRequest", "PregnancyStatus", "RegionOfResidence", "ReferringPhysicianName",
        "RequestedProcedureID", "RequestAttributesSequence", "RequestingPhysician", "RequestingService", "ResponsibleOrganization",
        "ResponsiblePerson", "ScheduledProcedureStepID", "StudyComments", "StudyID", "VisitComments",
    ]
    private static let fragments = [
        "Physician", "PersonName", "Telephone", "Address", "BirthDate", "BirthName", "PatientName", "PatientID", "Insurance",
    ]
}
