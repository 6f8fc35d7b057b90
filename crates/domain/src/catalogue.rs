//! The event types each contract documents, with a sample of `data` for each.
//!
//! Sources: JoggAI v2 "List Webhook Events" (names, order, most samples) and its webhook guide;
//! KonPro v1 "Webhook Events", whose payloads follow the API it mirrors. Samples that no document
//! gives take the shape of their nearest documented sibling.

use crate::contract::Contract;
use crate::event::EventType;
use crate::limits::EVENT_TYPE_BYTES_MAX;
use crate::time::Timestamp;

/// One documented event type.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CatalogueEntry {
    /// Its name.
    pub name: &'static str,
    /// What it says.
    pub description: &'static str,
    /// A sample of `data`: a JSON object.
    pub sample: &'static str,
}

/// An event type that an operator registered: a new one, or more about a documented one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RegisteredType {
    /// Whose catalogue it is in.
    pub contract: Contract,
    /// Its name.
    pub name: EventType,
    /// What it says.
    pub description: Option<String>,
    /// A JSON Schema that every `data` of this type must meet, as it was written.
    pub schema: Option<String>,
    /// A sample of `data`: a JSON object, as it was written.
    pub sample: Option<String>,
    /// When it was registered.
    pub created_at: Timestamp,
    /// When it was last changed.
    pub updated_at: Timestamp,
}

/// The documented event types of a contract, in its documents' order. `standard` has none of its
/// own: any well-formed name may be published there.
pub fn event_types(contract: Contract) -> &'static [CatalogueEntry] {
    match contract {
        Contract::JoggV2 => &JOGG_V2,
        Contract::KonproV1 => &KONPRO_V1,
        Contract::Standard => &[],
    }
}

/// The catalogue entry of that name.
pub fn find(contract: Contract, name: &str) -> Option<&'static CatalogueEntry> {
    event_types(contract).iter().find(|entry| entry.name == name)
}

/// The up to three names of the contract's catalogue nearest to `name`, nearest first, for error
/// messages.
pub fn nearest(contract: Contract, name: &str) -> Vec<&'static str> {
    nearest_of(event_types(contract).iter().map(|entry| entry.name), name)
}

/// The up to three of `names` nearest to `name`, nearest first. Of a long `name` the beginning
/// counts: no event type is longer than [`EVENT_TYPE_BYTES_MAX`].
pub fn nearest_of<'a>(names: impl Iterator<Item = &'a str>, name: &str) -> Vec<&'a str> {
    let name: String = name.chars().take(EVENT_TYPE_BYTES_MAX).collect();
    let mut names: Vec<_> =
        names.map(|known| (strsim::damerau_levenshtein(&name, known), known)).collect();
    names.sort_unstable();
    names.into_iter().take(3).map(|(_, name)| name).collect()
}

/// JoggAI v2, "List Webhook Events".
static JOGG_V2: [CatalogueEntry; 22] = [
    CatalogueEntry {
        name: "generated_video_success",
        description: "Video generation succeeded",
        sample: r#"{"project_id":"project_123456","video_url":"https://res.jogg.ai/video.mp4","duration":30}"#,
    },
    CatalogueEntry {
        name: "generated_video_failed",
        description: "Video generation failed",
        sample: r#"{"project_id":"project_123456","error":{"message":"Video generation failed"}}"#,
    },
    CatalogueEntry {
        name: "create_avatar_success",
        description: "Avatar creation succeeded",
        sample: r#"{"avatar_id":12345,"status":"completed","preview_url":"https://res.jogg.ai/avatar-preview.mp4"}"#,
    },
    CatalogueEntry {
        name: "create_avatar_failed",
        description: "Avatar creation failed",
        sample: r#"{"avatar_id":12345,"status":"failed","error":{"code":50000,"message":"Avatar creation failed"}}"#,
    },
    CatalogueEntry {
        name: "generated_image_success",
        description: "Image generation succeeded",
        sample: r#"{"photo_id":"photo_123456","photo_urls":["https://res.jogg.ai/image1.jpg","https://res.jogg.ai/image2.jpg"]}"#,
    },
    CatalogueEntry {
        name: "generated_image_failed",
        description: "Image generation failed",
        sample: r#"{"photo_id":"photo_123456","error":"Image generation failed due to invalid parameters"}"#,
    },
    CatalogueEntry {
        name: "generated_motion_success",
        description: "Motion generation succeeded",
        sample: r#"{"motion_id":"motion_123456","motion_url":"https://res.jogg.ai/motion.mp4","photo_url":"https://res.jogg.ai/photo.jpg"}"#,
    },
    CatalogueEntry {
        name: "generated_motion_failed",
        description: "Motion generation failed",
        sample: r#"{"motion_id":"motion_123456","error":"Motion generation failed due to processing error"}"#,
    },
    CatalogueEntry {
        name: "generated_product_video_success",
        description: "Product video generation succeeded",
        sample: r#"{"video_id":"video_123456","status":"completed","video_url":"https://res.jogg.ai/video.mp4","cover_url":"https://res.jogg.ai/cover.jpg","duration":30}"#,
    },
    CatalogueEntry {
        name: "generated_product_video_failed",
        description: "Product video generation failed",
        sample: r#"{"video_id":"video_123456","status":"failed","error":{"code":50000,"message":"Video generation failed"}}"#,
    },
    CatalogueEntry {
        name: "generated_avatar_video_success",
        description: "Avatar video generation succeeded",
        sample: r#"{"video_id":"video_123456","status":"completed","video_url":"https://res.jogg.ai/video.mp4","cover_url":"https://res.jogg.ai/cover.jpg","duration":30}"#,
    },
    CatalogueEntry {
        name: "generated_avatar_video_failed",
        description: "Avatar video generation failed",
        sample: r#"{"video_id":"video_123456","status":"failed","error":{"code":50000,"message":"Video generation failed"}}"#,
    },
    CatalogueEntry {
        name: "generated_template_video_success",
        description: "Template video generation succeeded",
        sample: r#"{"video_id":"video_123456","status":"completed","video_url":"https://res.jogg.ai/video.mp4","cover_url":"https://res.jogg.ai/cover.jpg","duration":30}"#,
    },
    CatalogueEntry {
        name: "generated_template_video_failed",
        description: "Template video generation failed",
        sample: r#"{"video_id":"video_123456","status":"failed","error":{"code":50000,"message":"Video generation failed"}}"#,
    },
    CatalogueEntry {
        name: "generated_translate_video_success",
        description: "Video translation succeeded",
        sample: r#"{"video_id":"video_123456","status":"completed","video_url":"https://res.jogg.ai/video.mp4","cover_url":"https://res.jogg.ai/cover.jpg","duration":30}"#,
    },
    CatalogueEntry {
        name: "generated_translate_video_failed",
        description: "Video translation failed",
        sample: r#"{"video_id":"video_123456","status":"failed","error":{"code":50000,"message":"Video generation failed"}}"#,
    },
    CatalogueEntry {
        name: "generated_photo_avatar_success",
        description: "Photo avatar creation succeeded",
        sample: r#"{"avatar_id":12345,"status":"completed","preview_url":"https://res.jogg.ai/avatar-preview.mp4"}"#,
    },
    CatalogueEntry {
        name: "generated_photo_avatar_failed",
        description: "Photo avatar creation failed",
        sample: r#"{"avatar_id":12345,"status":"failed","error":{"code":50000,"message":"Avatar creation failed"}}"#,
    },
    CatalogueEntry {
        name: "generated_product_avatar_success",
        description: "Product avatar creation succeeded",
        sample: r#"{"avatar_id":12345,"status":"completed","preview_url":"https://res.jogg.ai/avatar-preview.mp4"}"#,
    },
    CatalogueEntry {
        name: "generated_product_avatar_failed",
        description: "Product avatar creation failed",
        sample: r#"{"avatar_id":12345,"status":"failed","error":{"code":50000,"message":"Avatar creation failed"}}"#,
    },
    CatalogueEntry {
        name: "generated_script_success",
        description: "AI script generation succeeded",
        sample: r#"{"task_id":"task_123456","status":"completed","scripts":[{"script_style":"Storytime","script_paragraphs":"Your generated script content..."}]}"#,
    },
    CatalogueEntry {
        name: "generated_script_failed",
        description: "AI script generation failed",
        sample: r#"{"task_id":"task_123456","status":"failed","error":"Script generation failed"}"#,
    },
];

/// KonPro v1, "Webhook Events".
static KONPRO_V1: [CatalogueEntry; 7] = [
    CatalogueEntry {
        name: "avatar_video.success",
        description: "Avatar video succeeded",
        sample: r#"{"video_id":"video_123456","url":"https://example.com/video.mp4","gif_download_url":"https://example.com/video.gif","video_share_page_url":"https://example.com/share/video_123456","folder_id":"folder_123456","callback_id":"callback_123456"}"#,
    },
    CatalogueEntry {
        name: "avatar_video.fail",
        description: "Avatar video failed",
        sample: r#"{"video_id":"video_123456","msg":"Video generation failed","callback_id":"callback_123456"}"#,
    },
    CatalogueEntry {
        name: "avatar_video_gif.success",
        description: "Avatar video preview succeeded",
        sample: r#"{"video_id":"video_123456","url":"https://example.com/video.mp4","gif_download_url":"https://example.com/video.gif","video_share_page_url":"https://example.com/share/video_123456","folder_id":"folder_123456","callback_id":"callback_123456"}"#,
    },
    CatalogueEntry {
        name: "avatar_video_gif.fail",
        description: "Avatar video preview failed",
        sample: r#"{"video_id":"video_123456","msg":"Video generation failed","callback_id":"callback_123456"}"#,
    },
    CatalogueEntry {
        name: "video_translate.success",
        description: "Video translation succeeded",
        sample: r#"{"video_translate_id":"translate_123456","url":"https://example.com/video.mp4","callback_id":"callback_123456","output_language":"de"}"#,
    },
    CatalogueEntry {
        name: "video_translate.fail",
        description: "Video translation failed",
        sample: r#"{"video_translate_id":"translate_123456","message":"Video translation failed","callback_id":"callback_123456","output_language":"de"}"#,
    },
    CatalogueEntry {
        name: "personalized_video",
        description: "Personalized video finished",
        sample: r#"{"project_id":"project_123456","video_id":"video_123456","video_url":"https://example.com/video.mp4","landing_page_url":"https://example.com/landing","gif_url":"https://example.com/video.gif","gif_html":"<img src=\"https://example.com/video.gif\">","contact_info":{"first_name":"John"}}"#,
    },
];

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::EventType;

    #[test]
    fn the_catalogues_have_22_and_7_well_formed_names() {
        assert_eq!(event_types(Contract::JoggV2).len(), 22);
        assert_eq!(event_types(Contract::KonproV1).len(), 7);
        for contract in Contract::ALL {
            for entry in event_types(contract) {
                assert!(EventType::parse(entry.name).is_ok(), "{}", entry.name);
                assert!(entry.sample.starts_with('{'), "{}", entry.name);
                assert_eq!(find(contract, entry.name), Some(entry));
            }
        }
    }

    #[test]
    fn a_misspelt_name_is_answered_with_the_nearest_ones() {
        let names = nearest(Contract::JoggV2, "generated_avatar_vidoe_success");
        assert_eq!(names[0], "generated_avatar_video_success");
    }
}
