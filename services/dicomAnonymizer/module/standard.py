"""Columns of table E.1-1 of PS3.15 (edition 2024e) that the library does not have: what each option keeps or cleans.

The library's own table is the column of the Basic Profile alone. Attributes are named by their keyword.
"""

RETAIN_UIDS = """
    AcquisitionUID AffectedSOPInstanceUID AnnotationGroupUID ConcatenationUID ConceptualVolumeUID ConstituentConceptualVolumeUID
    DeviceUID DimensionOrganizationUID DoseReferenceUID DosimetricObjectiveUID FailedSOPInstanceUIDList FiducialUID
    FrameOfReferenceUID InstanceCreatorUID IrradiationEventUID LargePaletteColorLookupTableUID ManufacturerDeviceClassUID
    MediaStorageSOPInstanceUID MultiplexGroupUID ObservationSubjectUIDTrial ObservationUID PaletteColorLookupTableUID
    PatientSetupUID PresentationDisplayCollectionUID PresentationSequenceCollectionUID PyramidUID RTTreatmentPhaseUID
    ReferencedConceptualVolumeUID ReferencedDoseReferenceUID ReferencedDosimetricObjectiveUID ReferencedFiducialsUID
    ReferencedFrameOfReferenceUID ReferencedGeneralPurposeScheduledProcedureStepTransactionUID ReferencedImageSequence
    ReferencedObservationUIDTrial ReferencedPatientSequence ReferencedPerformedProcedureStepSequence ReferencedSOPInstanceUID
    ReferencedSOPInstanceUIDInFile ReferencedStudySequence ReferencedTreatmentPositionGroupUID RelatedFrameOfReferenceUID
    RequestedSOPInstanceUID SOPInstanceUID SeriesInstanceUID SourceConceptualVolumeUID SourceFrameOfReferenceUID
    SourceImageSequence SpecimenUID StorageMediaFileSetUID StudyInstanceUID SynchronizationFrameOfReferenceUID TargetUID
    TemplateExtensionCreatorUID TemplateExtensionOrganizationUID TrackingUID TransactionUID TreatmentPositionGroupUID
    TreatmentSessionUID
""".split()
"""Retain UIDs Option: kept."""

RETAIN_PATIENT_CHARACTERISTICS = """
    EthnicGroup PatientAge PatientSex PatientSexNeutered PatientSize PatientWeight PregnancyStatus SelectorASValue SmokingStatus
""".split()
"""Retain Patient Characteristics Option: kept."""

CLEAN_PATIENT_CHARACTERISTICS = """
    Allergies PatientState PreMedication SpecialNeeds
""".split()
"""Retain Patient Characteristics Option: cleaned."""

RETAIN_DEVICE_IDENTITY = """
    BeamHoldTransitionDateTime CalibrationDate CalibrationDateTime CalibrationTime CassetteID DateOfInstallation
    DateOfLastCalibration DateOfLastDetectorCalibration DateOfManufacture DateTimeOfLastCalibration DetectorID DeviceDescription
    DeviceLabel DeviceSerialNumber DeviceUID GantryID GeneratorID LensMake LensModel LensSerialNumber LensSpecification
    ManufacturerDeviceClassUID ManufacturerDeviceIdentifier ModifyingDeviceID ModifyingSystem
    PerformedStationGeographicLocationCodeSequence PerformedStationName PerformedStationNameCodeSequence PlateID
    ScheduledProcedureStepLocation ScheduledStationGeographicLocationCodeSequence ScheduledStationName
    ScheduledStationNameCodeSequence ScheduledStudyLocation SourceManufacturer SourceSerialNumber StationName
    TimeOfLastCalibration TimeOfLastDetectorCalibration TransducerIdentificationSequence TreatmentMachineName UDISequence
    UniqueDeviceIdentifier XRayDetectorID XRayDetectorLabel XRaySourceID
""".split()
"""Retain Device Identity Option: kept."""

CLEAN_DEVICE_IDENTITY = """
    DestinationAE NetworkID Originator PerformedStationAETitle ReceivingAE RequestingAE RetrieveAETitle ScheduledStationAETitle
    ScheduledStudyLocationAETitle SelectorAEValue StationAETitle
""".split()
"""Retain Device Identity Option: cleaned."""

RETAIN_INSTITUTION_IDENTITY = """
    ClinicalTrialCoordinatingCenterName ClinicalTrialProtocolEthicsCommitteeName ClinicalTrialSiteID ClinicalTrialSiteName
    InstitutionAddress InstitutionCodeSequence InstitutionName InstitutionalDepartmentName
    InstitutionalDepartmentTypeCodeSequence SourceOfPreviousValues
""".split()
"""Retain Institution Identity Option: kept."""

CLEAN_DESCRIPTORS = """
    AcquisitionComments AcquisitionDeviceProcessingDescription AcquisitionFieldOfViewLabel AcquisitionProtocolDescription
    AdditionalPatientHistory AdmittingDiagnosesCodeSequence AdmittingDiagnosesDescription Allergies AnnotationGroupDescription
    AnnotationGroupLabel BeamDescription BolusDescription ClinicalTrialSeriesDescription ClinicalTrialTimePointDescription
    CommentsOnRadiationDose CommentsOnThePerformedProcedureStep CompensatorDescription ConceptualVolumeCombinationDescription
    ConceptualVolumeDescription ContainerDescription ContrastBolusAgent ContributionDescription DecompositionDescription
    DerivationDescription DeviceSettingDescription DischargeDiagnosisDescription DisplacementReferenceLabel
    DoseReferenceDescription EntityDescription EntityLabel EntityLongLabel EntityName EquipmentFrameOfReferenceDescription
    FilterLookupTableDescription FixationDeviceDescription FractionGroupDescription FractionationNotes FrameComments
    IdentifyingComments ImageComments ImagingServiceRequestComments Impressions InterlockDescription InterlockOriginDescription
    InterpretationDiagnosisDescription InterpretationText LabelText LongDeviceDescription MakerNote MedicalAlerts
    MultienergyAcquisitionDescription Occupation PatientComments PatientSetupPhotoDescription PatientState
    PatientTreatmentPreparationMethodDescription PatientTreatmentPreparationProcedureParameterDescription
    PerformedProcedureStepDescription PositionAcquisitionTemplateDescription PositionAcquisitionTemplateName
    PrescriptionDescription PrescriptionNotes PrescriptionNotesSequence PriorTreatmentDoseDescription ProtocolName
    PyramidDescription PyramidLabel ROIDescription ROIGenerationDescription ROIName ROIObservationDescription
    ROIObservationLabel RTPhysicianIntentNarrative RTPlanDescription RTPlanLabel RTPlanName RTPrescriptionLabel
    RTToleranceSetLabel RTTreatmentApproachLabel RadiationDoseIdentificationLabel RadiationDoseInVivoMeasurementLabel
    RadiationGenerationModeDescription RadiationGenerationModeLabel ReasonForOmissionDescription
    ReasonForRequestedProcedureCodeSequence ReasonForStudy ReasonForSuperseding ReasonForTheAttributeModification
    ReasonForTheImagingServiceRequest ReasonForTheRequestedProcedure ReasonForVisit ReasonForVisitCodeSequence
    RequestAttributesSequence RequestedContrastAgent RequestedProcedureComments RequestedProcedureDescription
    RequestedSeriesDescription RespiratoryMotionCompensationTechniqueDescription ResultsComments
    ScheduledProcedureStepDescription SelectorLOValue SelectorLTValue SelectorSHValue SelectorSTValue SelectorUTValue
    SeriesDescription ServiceEpisodeDescription SetupTechniqueDescription ShieldingDeviceDescription SpecimenDetailedDescription
    SpecimenShortDescription StructureSetDescription StructureSetLabel StructureSetName StudyComments StudyDescription
    TreatmentPositionGroupLabel TreatmentSite TreatmentSites TreatmentTechniqueNotes TreatmentToleranceViolationDescription
    UserContentLabel UserContentLongLabel VisitComments WaveformFilterDescription
""".split()
"""Clean Descriptors Option: cleaned."""

SAFE_PRIVATE = (
    ("ELSCINT1", 0x00E1, (0x21, 0x50)),
    ("ELSCINT1", 0x01E1, (0x26,)),
    ("ELSCINT1", 0x01F1, (0x01, 0x07, 0x26, 0x27)),
    ("GEIIS PACS", 0x0903, (0x10, 0x11, 0x12)),
    ("GEMS_ACQU_01", 0x0019, (0x23, 0x24, 0x27)),
    ("GEMS_HELIOS_01", 0x0045, (0x01, 0x02)),
    ("GEMS_PARM_01", 0x0043, (0x27, 0x39, 0x6F)),
    ("GEMS_SERS_01", 0x0025, (0x07,)),
    ("Philips Imaging DD 001", 0x2001, (0x03, 0x04)),
    ("Philips MR Imaging DD 001", 0x2005, (0x0D, 0x0E)),
    ("Philips PET Private Group", 0x7053, (0x00, 0x09)),
    ("SIEMENS MR HEADER", 0x0019, (0x0C, 0x0D, 0x0E, 0x27)),
)
"""Private elements that may be kept: creator, group, last byte of the element.

From table E.3.10-1 of PS3.15, its numbers and codes of images alone: no sequences, no free text, no opaque bytes.
"""
