import Jobs
import Testing

@testable import Ingest

struct IngestFilterTests {
    private let head: [String: JSONValue] = [
        "Modality": "CT", "ImageType": #"ORIGINAL\PRIMARY\AXIAL"#, "SeriesInstanceUID": "1.2.3", "InstanceNumber": "1",
        "ImageOrientationPatient": #"1\0\0\0\1\0"#, "ImagePositionPatient": #"0\0\0"#, "SeriesDescription": "Head",
        "PatientName": "Secret^Name",
    ]
    private let upstream = IngestFilter(
        modalities: ["CT", "MR"], acceptedTypes: ["primary"], junkTypes: ["mip", "scout"],
        requiredTags: ["SeriesInstanceUID", "InstanceNumber", "ImageOrientationPatient", "ImagePositionPatient"], minimumInstances: 3
    )

    private func code(_ changes: [String: JSONValue?], instances: Int = 30, filter: IngestFilter? = nil) -> String? {
        var header = head
        for (tag, value) in changes { header[tag] = value }
        let reason = (filter ?? upstream).refusal(of: header, instances: instances)
        #expect(reason?.text.contains("Secret") != true)
        return reason?.code
    }

    @Test func anOrdinarySeriesPasses() {
        #expect(code([:]) == nil)
        #expect(code(["Modality": "ct"]) == nil)
        #expect(code([:], instances: 3) == nil)
    }

    @Test func withoutVariablesOnlyOwnResultsAreRefused() {
        #expect(code(["Modality": nil, "ImageType": nil, "ImagePositionPatient": nil], instances: 1, filter: IngestFilter()) == nil)
        #expect(code(["SeriesDescription": "dcm-processor-temp"], filter: IngestFilter()) == "own-result")
        #expect(code(["ActionSource": "dcm-processor "], filter: IngestFilter()) == "own-result")
        #expect(code(["DcmProcessorStatus": "processed"], filter: IngestFilter()) == "own-result")
    }

    @Test func refusalsHaveTheirReasons() {
        #expect(code([:], instances: 2) == "too-few-instances")
        #expect(code(["Modality": "SR"]) == "modality")
        #expect(code(["Modality": nil]) == "modality")
        #expect(code(["ImageType": #"DERIVED\SECONDARY"#]) == "image-type")
        #expect(code(["ImageType": nil]) == "image-type")
        #expect(code(["ImageType": #"ORIGINAL\PRIMARY\MIP"#]) == "junk")
        #expect(code(["ImagePositionPatient": nil]) == "missing-tag")
        #expect(code(["ImageOrientationPatient": #"1\0\0"#]) == "incomplete-tag")
        #expect(code(["ImagePositionPatient": ""]) == "incomplete-tag")
        #expect(code(["ImageType": #"ORIGINAL\PRIMARY\LOCALIZER"#]) == "localizer")
    }

    @Test func aPhilipsMultiframeNeedsNoGeometryOfItsOwn() {
        let multiframe: [String: JSONValue?] = [
            "Manufacturer": "Philips", "MediaStorageSOPClassUID": "1.2.840.10008.5.1.4.1.1.4.1", "ImagePositionPatient": nil,
        ]
        #expect(code(multiframe) == nil)
        #expect(code(multiframe.merging(["Manufacturer": "Other"]) { $1 }) == "missing-tag")
    }

    @Test func aReasonShowsOnlyWellFormedModalities() {
        var header = head
        header["Modality"] = "SR"
        #expect(upstream.refusal(of: header, instances: 30)?.text == "The modality is SR; SUPPORTED_MODALITY asks for CT, MR.")
        header["Modality"] = "Secret^Name"
        #expect(upstream.refusal(of: header, instances: 30)?.text.contains("Secret") == false)
    }
}
