import Foundation
import Jobs
import Orthanc
import Stack
import Testing
import Workbench

@testable import Ingest

/// `./dcm service test` reads a folder by itself; what a service gets to see there has to be what ingest would send.
@Suite(.timeLimit(.minutes(2))) struct TrialHeadersTests {
    @Test("A folder of images is told as Orthanc's copy of it is")
    func areThoseOfIngest() async throws {
        try await OrthancFixture.with { fixture in
            let python = ProcessInfo.processInfo.environment["PYTHON"] ?? "/usr/bin/python3"
            let images = try await Self.write(in: fixture.folder, python)
            let all = images.appending(path: "patient")
            for name in try FileManager.default.contentsOfDirectory(atPath: all.path).sorted() {
                try await fixture.upload(try Data(contentsOf: all.appending(path: name)))
            }
            let bench = Bench(
                registry: fixture.folder, modules: fixture.folder, python: python, library: Self.checkout.appending(path: "python"),
                variables: ["PATH": "/usr/bin:/bin"], environments: fixture.folder, folder: fixture.folder.appending(path: "bench"))
            let reader = ResourceReader(client: try fixture.client)
            for level in ResourceLevel.allCases {
                let folder = images.appending(path: level.rawValue)
                var study = try await TrialStudy.read(folder, level: level, on: bench)
                let id = try fixture.client.identifier(try #require((study.headers["id"] ?? study.headers["seriesId"])?.string))
                let snapshot = try await reader.snapshot(level, id)
                // Orthanc lists instances as it likes, and the first one gives the tags.
                let order = snapshot.studies.flatMap(\.series).flatMap { $0.instances.map(\.rawValue) }
                study = try await TrialStudy.read(folder, level: level, order: order, on: bench)
                var samples: [OrthancID: SeriesSample] = [:]
                for series in snapshot.studies.flatMap(\.series) {
                    samples[series.id] = try await reader.sample(series, IngestFilter(), passesOverSilence: false)
                }
                let theirs = Self.comparable(EventHeaders.make(snapshot, accepted: samples))
                let ours = Self.comparable(study.headers)
                #expect(ours == theirs, "\(level)")
                #expect(
                    study.instances == Dictionary(uniqueKeysWithValues: samples.map { ($0.key.rawValue, $0.value.series.instances.count) }))
                #expect(theirs.text.contains("ReferencedStudySequence"))
            }
        }
    }

    /// Without private tags, which the folder's reader leaves out; lists of studies and series in one order.
    private static func comparable(_ value: JSONValue) -> JSONValue {
        switch value {
        case .object(let members):
            let isKnown: (String) -> Bool = { !["Private Creator", "PrivateCreator", "Unknown Tag & Data"].contains($0) }
            return .object(members.filter { isKnown($0.key) }.mapValues(comparable))
        case .array(let elements): return .array(elements.map(comparable).sorted { $0.text < $1.text })
        default: return value
        }
    }

    private static let checkout = URL(filePath: #filePath).resolvingSymlinksInPath()
        .deletingLastPathComponent().deletingLastPathComponent().deletingLastPathComponent()

    /// - Returns: a folder with one for each level.
    private static func write(in folder: URL, _ python: String) async throws -> URL {
        let images = folder.appending(path: "images", directoryHint: .isDirectory)
        for level in ResourceLevel.allCases {
            try FileManager.default.createDirectory(at: images.appending(path: level.rawValue), withIntermediateDirectories: true)
        }
        let script = folder.appending(path: "images.py")
        try Data(writer.utf8).write(to: script)
        let log = folder.appending(path: "images.log")
        let process = try ManagedProcess(
            Command(
                name: "images.py", executable: python, arguments: [script.path, images.path], environment: Command.plainEnvironment,
                logFile: log))
        let failure = StackError(.timedOut, "images.py did not end", logFile: log)
        _ = try await poll(for: .seconds(60), orThrow: failure) { process.exit }
        return images
    }

    /// Kinds of values that two readers could tell in two ways.
    private static let writer = """
        import os, sys
        from pydicom.dataset import Dataset, FileDataset, FileMetaDataset
        from pydicom.sequence import Sequence
        from pydicom.uid import ExplicitVRLittleEndian, ImplicitVRLittleEndian

        def image(name, study, series, number, syntax=ExplicitVRLittleEndian, **tags):
            meta = FileMetaDataset()
            meta.MediaStorageSOPClassUID = "1.2.840.10008.5.1.4.1.1.2"
            meta.MediaStorageSOPInstanceUID = f"{series}.{number}"
            meta.TransferSyntaxUID = syntax
            path = os.path.join(sys.argv[1], name)
            data = FileDataset(path, {}, file_meta=meta, preamble=bytes(128))
            data.is_little_endian, data.is_implicit_VR = True, syntax == ImplicitVRLittleEndian
            data.SpecificCharacterSet = "ISO_IR 100"
            data.SOPClassUID, data.SOPInstanceUID = meta.MediaStorageSOPClassUID, meta.MediaStorageSOPInstanceUID
            data.PatientID, data.PatientName, data.PatientBirthDate, data.PatientSex = "4711 ", "Müller^Jürgen", "19700131", ""
            data.StudyInstanceUID, data.SeriesInstanceUID, data.InstanceNumber = study, series, number
            data.StudyDate, data.StudyTime, data.StudyDescription, data.AccessionNumber = "20240131", "101112.5", "Thorax  ", ""
            data.ReferringPhysicianName, data.InstitutionName, data.OtherPatientIDs = "Größe^Ä", "Haus", ["a", "b"]
            data.ImageType = ["ORIGINAL", "PRIMARY", "AXIAL"]
            data.PixelSpacing, data.SliceThickness = ["0.50 ", "0.5"], "1.2500"
            data.Rows = data.Columns = 2
            data.SamplesPerPixel, data.BitsAllocated, data.BitsStored, data.HighBit, data.PixelRepresentation = 1, 16, 12, 11, 0
            data.PhotometricInterpretation, data.PixelData = "MONOCHROME2", bytes(8)
            data.ImageComments = "x" * 300
            item = Dataset()
            item.ReferencedSOPClassUID, item.ReferencedSOPInstanceUID = "1.2.3", "1.2.3.4"
            data.ReferencedStudySequence = Sequence([item])
            data.DiffusionBValue, data.DiffusionGradientOrientation = 0.1, [0.5, 1 / 3, -2.0]
            data.FrameIncrementPointer = 0x00181063
            data.add_new(0x00090010, "LO", "SOMEBODY")
            data.add_new(0x00091001, "LO", "private")
            for key, value in tags.items():
                setattr(data, key, value)
            data.save_as(path, write_like_original=False)

        for level in ("series", "study", "patient"):
            image(f"{level}/1.dcm", "1.2.3.5", "1.2.3.5.1", 2, Modality="CT")
            image(f"{level}/2.dcm", "1.2.3.5", "1.2.3.5.1", 1, Modality="CT")
            if level != "series":
                image(f"{level}/3.dcm", "1.2.3.5", "1.2.3.5.2", 1, ImplicitVRLittleEndian, Modality="MR", SeriesDescription="é" * 3)
            if level == "patient":
                image(f"{level}/4.dcm", "1.2.3.6", "1.2.3.6.1", 1, Modality="SR", StudyDescription="Knie")
        """
}
