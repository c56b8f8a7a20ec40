import Foundation

/// What is known of DICOM's tags: which values say nothing about a person and may be shown, and how frequent keywords are spelled.
enum TagVocabulary {
    /// Tags of which a value of the expected form may stand in reasons, logs and on pages. They describe how an image was made.
    static let codes: Set<String> = [
        "BodyPartExamined", "BurnedInAnnotation", "ConversionType", "FrameType", "ImageLaterality", "ImageType", "Laterality",
        "LossyImageCompression", "MRAcquisitionType", "Modality", "ModalitiesInStudy", "PatientIdentityRemoved", "PatientPosition",
        "PhotometricInterpretation", "PresentationIntentType", "RecognizableVisualFeatures", "ScanOptions", "ScanningSequence",
        "SequenceVariant", "ViewPosition",
    ]
    static let numbers: Set<String> = [
        "AcquisitionMatrix", "BitsAllocated", "BitsStored", "Columns", "DataCollectionDiameter", "DiffusionBValue", "EchoNumbers",
        "EchoTime",
        "EchoTrainLength", "Exposure", "ExposureTime", "FlipAngle", "GantryDetectorTilt", "HighBit", "ImagerPixelSpacing",
        "ImagesInAcquisition",
        "ImagingFrequency", "InstanceNumber", "InversionTime", "KVP", "MagneticFieldStrength", "NumberOfAverages", "NumberOfFrames",
        "NumberOfPhaseEncodingSteps", "NumberOfTemporalPositions", "PixelBandwidth", "PixelRepresentation", "PixelSpacing",
        "ReconstructionDiameter", "RepetitionTime", "RescaleIntercept", "RescaleSlope", "Rows", "SamplesPerPixel", "SeriesNumber",
        "SliceThickness", "SpacingBetweenSlices", "TriggerTime", "XRayTubeCurrent",
    ]
    static let classes: Set<String> = ["MediaStorageSOPClassUID", "SOPClassUID", "TransferSyntaxUID"]

    private static let others: Set<String> = [
        "AccessionNumber", "AcquisitionDate", "AcquisitionNumber", "ContentDate", "ContrastBolusAgent", "ConvolutionKernel",
        "DeviceSerialNumber",
        "FrameOfReferenceUID", "ImageComments", "ImageOrientationPatient", "ImagePositionPatient", "InstitutionName",
        "InstitutionalDepartmentName", "Manufacturer", "ManufacturerModelName", "OperatorsName", "PatientAge", "PatientBirthDate",
        "PatientID",
        "PatientName", "PatientSex", "PatientSize", "PatientWeight", "PerformedProcedureStepDescription", "ProtocolName",
        "ReferringPhysicianName", "RequestedProcedureDescription", "SOPInstanceUID", "SequenceName", "SeriesDate", "SeriesDescription",
        "SeriesInstanceUID", "SeriesTime", "SoftwareVersions", "SpecificCharacterSet", "StationName", "StudyDate", "StudyDescription",
        "StudyID",
        "StudyInstanceUID", "StudyTime", "WindowCenter", "WindowWidth",
    ]

    /// The frequent keyword that `keyword` is one letter away from; nil for one that is spelled right, or that nobody here knows.
    static func meant(by keyword: String) -> String? {
        let known = codes.union(numbers).union(classes).union(others)
        guard !known.contains(keyword) else { return nil }
        return known.sorted().first { $0.lowercased() == keyword.lowercased() }
            ?? known.sorted().first { NearestName.distance($0, keyword) <= 1 }
    }

    /// The frequent keyword of these letters.
    static func spelled(_ word: String) -> String? {
        codes.union(numbers).union(classes).union(others).first { $0.lowercased() == word.lowercased() }
    }

    /// A value as it may be shown; nil when it could tell something about a person.
    static func shown(_ values: [String], of keyword: String) -> String? {
        guard !values.isEmpty, values.count <= 16 else { return nil }
        let isShown: (String) -> Bool
        if codes.contains(keyword) {
            // One word of capitals: a name has a space or a caret in it, a date no letter in front.
            isShown = { value in
                let isLetter: (UInt8) -> Bool = { UInt8(ascii: "A")...UInt8(ascii: "Z") ~= $0 }
                let isDigit: (UInt8) -> Bool = { UInt8(ascii: "0")...UInt8(ascii: "9") ~= $0 }
                return (1...16).contains(value.utf8.count) && value.utf8.first.map(isLetter) == true
                    && value.utf8.allSatisfy { isLetter($0) || isDigit($0) || $0 == UInt8(ascii: "_") }
            }
        } else if numbers.contains(keyword) {
            isShown = { $0.utf8.count <= 16 && TagNumber.parse($0) != nil }
        } else if classes.contains(keyword) {
            // The ones that the standard has defined.
            isShown = { $0.hasPrefix("1.2.840.10008.") && $0.utf8.count <= 64 && $0.utf8.allSatisfy { $0 == 0x2e || 0x30...0x39 ~= $0 } }
        } else {
            return nil
        }
        return values.allSatisfy(isShown) ? values.joined(separator: "\\") : nil
    }
}

enum TagNumber {
    /// A decimal or integer string; an age (`045Y`) is in years.
    static func parse(_ text: String) -> Double? {
        if text.utf8.count == 4, let unit = text.last, let days = ["D": 1, "W": 7, "M": 30.4375, "Y": 365.25][unit],
            let count = Int(text.prefix(3)), count >= 0
        {
            return unit == "Y" ? Double(count) : Double(count) * days / 365.25
        }
        // Not what else Swift takes for a number: nan, inf, 0x10.
        let allowed = "0123456789+-.eE".utf8
        guard !text.isEmpty, text.utf8.allSatisfy(allowed.contains), let number = Double(text), number.isFinite else { return nil }
        return number
    }

    /// As people write it.
    static func text(_ number: Double) -> String {
        number == number.rounded() && abs(number) < 1e15 ? "\(Int64(number))" : "\(number)"
    }
}
