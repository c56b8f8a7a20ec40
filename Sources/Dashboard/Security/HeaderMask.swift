import Jobs

/// JSON with what identifies a person hidden: names, numbers, dates of birth, addresses, free text about a patient.
///
/// Meant for DICOM headers, and used for all that callbacks and jobs hand on too, which often is a piece of a header. Errs towards
/// hiding: every name that is not known to be a device's or a protocol's, everything that begins with `Patient` but says nothing of
/// who it is, and elements that no keyword is known for.
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

    /// What several jobs get, by their names: those are ours and say nothing of a patient.
    static func maskedByJob(_ values: JSONValue) -> JSONValue {
        guard let values = values.object else { return masked(values) }
        return .object(values.mapValues(masked))
    }

    /// - Parameter key: a DICOM keyword (`PatientName`), the same as programs write it (`patientName`, `patient_name`), or a tag
    ///   (`0010,0010`).
    static func identifies(_ key: String) -> Bool {
        // Orthanc's identifier of a patient, a hash.
        if key == "patientId" { return false }
        // A tag in place of a keyword: private, or unknown to the server.
        if key.wholeMatch(of: /\(?[0-9A-Fa-f]{4}[,|]? ?[0-9A-Fa-f]{4}\)?/) != nil { return true }
        let keyword = keyword(key)
        if harmless.contains(keyword) || deviceNames.contains(keyword) { return false }
        if keywords.contains(keyword) || prefixes.contains(where: { keyword.hasPrefix($0) }) { return true }
        if programs.contains(keyword.lowercased()) { return true }
        // Programs call files and outputs names too: `fileName` is none of DICOM's.
        if key == keyword, key.hasSuffix("Name") || key.hasSuffix("Names") { return true }
        return fragments.contains { keyword.contains($0) }
    }

    /// `patient_name` and `patientName` as DICOM writes it.
    private static func keyword(_ key: String) -> String {
        key.split(whereSeparator: { "_- ".contains($0) }).map { $0.prefix(1).uppercased() + $0.dropFirst() }.joined()
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
    private static let deviceNames: Set<String> = [
        "AcquisitionProtocolName", "AlgorithmName", "ApplicationName", "ApplicationSetupName", "BeamName", "BrachyAccessoryDeviceName",
        "ChannelShieldName", "CodingSchemeName", "CollimatorGridName", "ConfigurationName", "DataSetName",
        "DetectorManufacturerModelName", "DetectorManufacturerName", "DisplaySubsystemName", "DoseModeName", "EnergyWindowName",
        "HangingProtocolName", "HardcopyDeviceManufacturerModelName", "ImplementationVersionName", "InterventionDrugName",
        "ManufacturerModelName", "MappingResourceName", "MultiCoilElementName", "PerformedStationName", "PrinterName", "ProductName",
        "ProtocolElementName", "ProtocolName", "PulseSequenceName", "RadiationMachineName", "ReceiveCoilManufacturerName",
        "ReceiveCoilName", "ScheduledStationName", "SecondaryCaptureDeviceManufacturerModelName", "SegmentAlgorithmName",
        "SequenceName", "SourceIsotopeName", "StageName", "StationName", "TemplateName", "TransmitCoilManufacturerName",
        "TransmitCoilName", "TreatmentMachineName", "ViewName", "WedgeManufacturerName", "WedgeName",
    ]
    private static let keywords: Set<String> = [
        "AccessionNumber", "AdmissionID", "AdditionalPatientHistory", "AdmittingDiagnosesCodeSequence", "AdmittingDiagnosesDescription",
        "Allergies", "BranchOfService", "CountryOfResidence", "CurrentPatientLocation", "DocumentTitle", "EncapsulatedDocument",
        "EthnicGroup", "FillerOrderNumberImagingServiceRequest", "IssuerOfPatientID", "LastMenstrualDate", "MedicalAlerts",
        "MedicalRecordLocator", "MilitaryRank", "Occupation", "OperatorIdentificationSequence", "OrderEnteredBy",
        "PerformedProcedureStepID", "PersonIdentificationCodeSequence", "PlacerOrderNumberImagingServiceRequest", "PregnancyStatus",
        "ReasonForStudy", "ReasonForTheRequestedProcedure", "RegionOfResidence", "RequestAttributesSequence", "RequestedProcedureID",
        "RequestingService", "ResponsibleOrganization", "ResponsiblePerson", "ROIInterpreter", "ScheduledProcedureStepID",
        "SelectorLTValue", "SelectorPNValue", "SelectorSTValue", "SelectorUTValue", "ServiceEpisodeID", "SmokingStatus", "SpecialNeeds",
        "StudyID", "TextValue", "VerbalSource",
    ]
    /// What programs call it, in lower case without dashes.
    private static let programs: Set<String> = [
        "birthday", "dateofbirth", "dob", "email", "familyname", "firstname", "forename", "fullname", "givenname", "lastname", "maidenname",
        "middlename", "mrn", "nhsnumber", "phone", "phonenumber", "socialsecuritynumber", "ssn", "surname",
    ]
    private static let prefixes = ["Patient", "OtherPatient", "ClinicalTrialSubject", "Unknown", "Private"]
    private static let fragments = [
        "Physician", "PersonName", "Telephone", "Address", "BirthDate", "BirthName", "PatientName", "PatientID", "Insurance", "Comments",
        "InstitutionName", "InstitutionalDepartment", "NameOf", "NamesOf", "Observer", "Interpretation", "OperatorsName", "AuthorTrial",
    ]
}
